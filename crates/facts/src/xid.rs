//! The driver's error numbers: Xid of GPUs, SXid of NVSwitches, and what NVIDIA says to do.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

/// What to do about an error, in the words of NVIDIA's catalogue ("resolution bucket").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nothing: the driver or the hardware dealt with it.
    Ignore,
    /// Start the program again.
    RestartApp,
    /// The same, and reset the GPU when nothing uses it: until then a memory row is out of use.
    RestartAppResetLater,
    /// Reset the GPU when nothing uses it: until then a part of its memory is out of use.
    ResetLater,
    /// Reset the GPU.
    ResetGpu,
    /// Reset all GPUs and NVSwitches of the machine.
    ResetFabric,
    /// Restart the machine, or the virtual machine.
    RestartHost,
    /// Look at the cables of its power.
    CheckPower,
    /// Look at the cooling.
    CheckCooling,
    /// Look at connectors, bridges and cables of NVLink.
    CheckLink,
    /// Update driver, firmware or hypervisor.
    UpdateSoftware,
    /// Ask NVIDIA or the vendor of the machine.
    ContactSupport,
    /// Another error that comes with it decides.
    SeeOther,
    /// Unit and status of the line decide: [`nvlink`].
    ByLink,
    /// The line itself names the recovery (Xid 154).
    ByLine,
}

/// An error of a GPU.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Xid {
    /// The number.
    pub code: u32,
    /// NVIDIA's name: `ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS`.
    pub name: String,
    /// NVIDIA's description.
    pub what: String,
    /// What to do at once.
    #[serde(rename = "do")]
    pub action: Action,
    /// Words of a line after which the GPU is still to be reset, [`Action::ResetLater`].
    #[serde(default)]
    pub waits: Option<String>,
}

/// A kind of NVLink 5 error, within one of the numbers 144 to 150.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvLink {
    /// The number.
    pub xid: u32,
    /// Names of the unit in the line, by driver release: `NETIR_LINK_EVT`, `NETIR_LINK_DOWN`.
    pub units: Vec<String>,
    /// The first word after the link, bit 31 first, `-` for any; by driver release.
    pub bits: [String; 2],
    /// The second word; 0 is any.
    pub status: u32,
    /// What to do at once.
    #[serde(rename = "do")]
    pub action: Action,
    /// Whether the link, or more, is down.
    pub fatal: bool,
}

/// An error of an NVSwitch.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SXid {
    /// The number.
    pub code: u32,
    /// NVIDIA's name for it.
    pub name: String,
    /// What to do when it was fatal.
    #[serde(rename = "do")]
    pub action: Action,
    /// Whether the guide lists it as fatal.
    pub fatal: bool,
    /// Where that is said, if not in the guide.
    pub source: Option<String>,
}

#[derive(Deserialize)]
struct Xids {
    date: String,
    page: String,
    xid: Vec<Xid>,
    link: Vec<NvLink>,
    recovery: Vec<Recovery>,
}

/// A recovery that Xid 154 asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recovery {
    code: u32,
    #[serde(rename = "do")]
    action: Action,
}

#[derive(Deserialize)]
struct SXids {
    sxid: Vec<SXid>,
}

static XIDS: LazyLock<Xids> = LazyLock::new(|| table::read(table::XID));
static SXIDS: LazyLock<SXids> = LazyLock::new(|| table::read(table::SXID));

/// The error of a GPU with that number; none for numbers that NVIDIA lists as unused.
pub fn xid(code: u32) -> Option<&'static Xid> {
    XIDS.xid.iter().find(|row| row.code == code)
}

/// What NVIDIA's catalogue says where it has no error of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Catalogue {
    /// When it was read: `2026-11-25`.
    pub date: &'static str,
    /// Its address.
    pub page: &'static str,
    /// The last number that it has: between the first and this one, those that it lacks are unused.
    pub last: u32,
}

/// The catalogue that [`xid`] is of.
pub fn xid_catalogue() -> Catalogue {
    let last = XIDS.xid.iter().map(|row| row.code).max().unwrap_or_default();
    Catalogue { date: &XIDS.date, page: &XIDS.page, last }
}

/// The kind of NVLink 5 error: number, unit, and the first two words of the line.
pub fn nvlink(code: u32, unit: &str, info: u32, status: u32) -> Option<&'static NvLink> {
    let fits = |bits: &String| {
        let mut places = bits.bytes().rev().enumerate();
        places.all(|(at, bit)| bit == b'-' || u32::from(bit == b'1') == info >> at & 1)
    };
    let rows = XIDS.link.iter().filter(|row| {
        row.xid == code
            && row.units.iter().any(|name| name == unit)
            && row.bits.iter().any(fits)
            && (row.status == 0 || row.status == status)
    });
    // A row of that very status says more than one for any.
    rows.max_by_key(|row| row.status)
}

/// What to do about an error of that number by its line, where the line decides: what recovery it names, or what kind of an
/// NVLink's error it is. Nothing where the number alone decides, or the line does not say.
pub fn xid_action(row: &Xid, line: &str) -> Option<Action> {
    if row.waits.as_deref().is_some_and(|words| line.contains(words)) {
        return Some(Action::ResetLater);
    }
    match row.action {
        // `… GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)`.
        Action::ByLine => {
            let (_, to) = line.rsplit_once(" to 0x")?;
            let digits = to.split(|c: char| !c.is_ascii_hexdigit()).next()?;
            let code = u32::from_str_radix(digits, 16).ok()?;
            XIDS.recovery.iter().find(|row| row.code == code).map(|row| row.action)
        }
        Action::ByLink => link_action(row.code, line),
        _ => None,
    }
}

/// Of `NETIR_LINK_EVT Fatal XC0 i0 Link 09 (0x004505c6 0x00000000 …)`, after the error's number, pid and name where they are known.
fn link_action(code: u32, line: &str) -> Option<Action> {
    let (said, words) = line.split_once(" (0x")?;
    let said = said.rsplit_once(", ").map_or(said, |(_, said)| said);
    let (unit, rest) = said.split_once(' ').unwrap_or((said, ""));
    let mut words = words
        .split([' ', ')'])
        .map(|word| u32::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    let kind = match (words.next().flatten(), words.next().flatten()) {
        (Some(info), Some(status)) => nvlink(code, unit, info, status),
        _ => None,
    };
    Some(match kind {
        Some(row) if row.action == Action::ByLine => Action::ResetGpu,
        Some(row) => row.action,
        None if rest.trim_start().starts_with("Fatal") => Action::ResetGpu,
        None => Action::Ignore,
    })
}

/// The error of an NVSwitch with that number.
pub fn sxid(code: u32) -> Option<&'static SXid> {
    SXIDS.sxid.iter().find(|row| row.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found() {
        assert_eq!(xid(79).unwrap().action, Action::RestartHost);
        assert_eq!(xid(140).unwrap().action, Action::ResetGpu);
        assert_eq!(xid(121).unwrap().action, Action::Ignore);
        assert!(xid(1).is_none() && xid(4000).is_none());
        assert!(sxid(20034).unwrap().fatal && !sxid(12028).unwrap().fatal);
        let down = nvlink(149, "NETIR_LINK_EVT", 0x0045_05c6, 0).unwrap();
        assert!(down.fatal && down.action == Action::ResetGpu);
        assert!(nvlink(149, "NETIR_LINK_EVT", 0xffff_ffff, 0).is_none());
    }

    #[test]
    fn rows_are_in_order_and_bits_are_a_word() {
        assert!(XIDS.xid.is_sorted_by_key(|row| row.code));
        assert!(SXIDS.sxid.is_sorted_by(|a, b| a.code < b.code));
        for row in &XIDS.link {
            assert!((144..=150).contains(&row.xid) && !row.units.is_empty());
            for bits in &row.bits {
                assert!(bits.len() == 32 && bits.bytes().all(|b| b"01-".contains(&b)), "{bits}");
            }
        }
    }
}
