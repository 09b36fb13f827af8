//! Relationships between packages: `a (>= 1) | b:any, c`.
//!
//! Source: Debian Policy §7.1, "Syntax of relationship fields".

use std::fmt;

use crate::Version;

/// How a version is compared in a relationship.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=` (and the old spelling `<`)
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=` (and the old spelling `>`)
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    /// Whether `version` fits with `bound` on the right-hand side.
    pub fn admits(self, version: &Version, bound: &Version) -> bool {
        match self {
            Self::Earlier => version < bound,
            Self::EarlierOrEqual => version <= bound,
            Self::Equal => version == bound,
            Self::LaterOrEqual => version >= bound,
            Self::Later => version > bound,
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }
}

/// One package name with its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The package, real or virtual.
    pub name: String,
    /// What stands after a colon: `any`, `native` or an architecture.
    pub qualifier: Option<String>,
    /// The bound on its version.
    pub version: Option<(Operator, Version)>,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(qualifier) = &self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = &self.version {
            write!(f, " ({} {version})", operator.symbol())?;
        }
        Ok(())
    }
}

/// Alternatives, one of which must hold.
pub type Group = Vec<Relation>;

/// Alternatives as they are written in a control file.
pub fn display_group(group: &[Relation]) -> String {
    group.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | ")
}

/// Whether `name` can be a package's name (Policy §5.6.1; one-letter names exist, as `r`).
pub fn is_package_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 128
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|c| plain(c) || matches!(c, b'+' | b'-' | b'.'))
}

/// Reads a relationship field, or says which piece of it is wrong.
pub fn parse(field: &str) -> Result<Vec<Group>, String> {
    let pieces = field.split(',').map(str::trim).filter(|piece| !piece.is_empty());
    pieces.map(|group| group.split('|').map(|text| relation(text.trim())).collect()).collect()
}

fn relation(text: &str) -> Result<Relation, String> {
    let fault = || text.chars().take(120).collect::<String>();
    let (head, bound) = match text.split_once('(') {
        Some((head, bound)) => (head.trim(), Some(bound.strip_suffix(')').ok_or_else(fault)?)),
        None => (text, None),
    };
    let (name, qualifier) = match head.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier.to_owned())),
        None => (head, None),
    };
    if !is_package_name(name) || qualifier.as_deref().is_some_and(|q| !is_package_name(q)) {
        return Err(fault());
    }
    let version = bound.map(|bound| self::bound(bound.trim()).ok_or_else(fault)).transpose()?;
    Ok(Relation { name: name.to_owned(), qualifier, version })
}

fn bound(text: &str) -> Option<(Operator, Version)> {
    let spellings = [
        ("<<", Operator::Earlier),
        (">>", Operator::Later),
        ("<=", Operator::EarlierOrEqual),
        (">=", Operator::LaterOrEqual),
        ("=", Operator::Equal),
        ("<", Operator::EarlierOrEqual),
        (">", Operator::LaterOrEqual),
    ];
    let (rest, operator) =
        spellings.iter().find_map(|(sign, op)| Some((text.strip_prefix(sign)?, *op)))?;
    Some((operator, Version::parse(rest.trim()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        let field =
            "libc6 (>= 2.36), default-mta | mail-transport-agent, python3:any (<< 3.14~), c";
        let groups = parse(field).unwrap();
        let text = groups.iter().map(|g| display_group(g)).collect::<Vec<_>>().join(", ");
        assert_eq!(text, field);
        assert_eq!(groups[1].len(), 2);
        assert_eq!(groups[2][0].qualifier.as_deref(), Some("any"));
        assert_eq!(parse("").unwrap(), Vec::<Group>::new());
        assert_eq!(parse("a (< 1)").unwrap()[0][0].version.as_ref().unwrap().0.symbol(), "<=");
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for field in
            ["a (", "a (1)", "a (>= )", "A", "a | ", "a b", "../x", "a (>= 1))", "a:", "a [amd64]"]
        {
            assert!(parse(field).is_err(), "{field}");
        }
    }
}
