//! What an image is for: processor and Debian release, and with them Python, glibc and wheel tags.

use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder};
use sconce_facts::{Base, Machine};

use crate::wheel_name::WheelName;

/// Processor and Debian release.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The processor.
    pub machine: Machine,
    /// The release.
    pub base: &'static Base,
}

impl Target {
    /// The environment that PEP 508 markers are evaluated in.
    ///
    /// # Errors
    /// The base's Python version is malformed, which the facts' own tests exclude.
    pub fn markers(&self) -> Result<MarkerEnvironment, String> {
        MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
            implementation_name: "cpython",
            implementation_version: &self.base.python_full,
            os_name: "posix",
            platform_machine: self.machine.as_str(),
            platform_python_implementation: "CPython",
            platform_release: "",
            platform_system: "Linux",
            platform_version: "",
            python_full_version: &self.base.python_full,
            python_version: self.base.python_version(),
            sys_platform: "linux",
        })
        .map_err(|error| error.to_string())
    }

    /// How well a wheel fits: the smallest is best, `None` does not fit. The order is pip's: exact interpreter and
    /// ABI first, then the stable ABI from new to old, then no ABI; newer glibc before older, `any` last. A variant
    /// fits nowhere: as for pip, which does not know them, and for uv unless it is told to.
    pub fn rank(&self, wheel: &WheelName) -> Option<Rank> {
        if wheel.variant.is_some() {
            return None;
        }
        let mut best = None;
        for python in wheel.python.split('.') {
            for abi in wheel.abi.split('.') {
                let Some(interpreter) = self.interpreter_rank(python, abi) else { continue };
                for platform in wheel.platform.split('.') {
                    let Some(platform) = self.platform_rank(platform) else { continue };
                    let rank = Rank { any: platform == ANY, interpreter, platform };
                    if best.is_none_or(|best| rank < best) {
                        best = Some(rank);
                    }
                }
            }
        }
        best
    }

    fn interpreter_rank(&self, python: &str, abi: &str) -> Option<u16> {
        let minor: u16 = self.base.python_version().strip_prefix("3.")?.parse().ok()?;
        let cp = |text: &str| text.strip_prefix("cp3")?.parse::<u16>().ok();
        let py = |text: &str| text.strip_prefix("py3")?.parse::<u16>().ok();
        let not_newer = |of: Option<u16>| of.filter(|of| *of <= minor).map(|of| minor - of);
        match abi {
            // The stable ABI is not there without the GIL (PEP 703).
            "abi3" if self.base.is_free_threaded() => None,
            "abi3" => not_newer(cp(python)).map(|age| 1 + age),
            "none" if python == "py3" => Some(400),
            "none" if cp(python).is_some() => (cp(python) == Some(minor)).then_some(200),
            "none" => not_newer(py(python)).map(|age| 300 + age),
            _ => (cp(python) == Some(minor) && abi == self.base.python_tag()).then_some(0),
        }
    }

    fn platform_rank(&self, platform: &str) -> Option<u16> {
        if platform == "any" {
            return Some(ANY);
        }
        let (family, glibc) =
            match platform.strip_suffix(self.machine.as_str())?.strip_suffix('_')? {
                "linux" => return Some(PLAIN_LINUX),
                "manylinux1" => (2, 5),
                "manylinux2010" => (2, 12),
                "manylinux2014" => (2, 17),
                other => {
                    let (family, glibc) = other.strip_prefix("manylinux_")?.split_once('_')?;
                    (family.parse().ok()?, glibc.parse::<u16>().ok()?)
                }
            };
        let (our_family, ours) = self.base.glibc_version();
        (family == our_family && glibc <= ours).then(|| ours - glibc)
    }
}

/// How well a wheel fits; smaller is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    any: bool,
    interpreter: u16,
    platform: u16,
}

const PLAIN_LINUX: u16 = 1000;
const ANY: u16 = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(file: &str) -> Option<Rank> {
        let base = sconce_facts::base("trixie").unwrap();
        Target { machine: Machine::X86_64, base }.rank(&file.parse().unwrap())
    }

    #[test]
    fn fits() {
        for file in [
            "torch-2.15.0-cp313-cp313-manylinux_2_28_x86_64.whl",
            "a-1-py3-none-any.whl",
            "a-1-py2.py3-none-any.whl",
            "a-1-cp38-abi3-manylinux2014_x86_64.whl",
            "a-1-cp313-cp313-linux_x86_64.whl",
            "a-1-py3-none-manylinux_2_41_x86_64.whl",
            "torch-2.1.0-cp313-cp313-manylinux1_x86_64.whl",
        ] {
            assert!(rank(file).is_some(), "{file}");
        }
        for file in [
            "a-1-cp314-cp314-manylinux_2_28_x86_64.whl",
            "a-1-cp313-cp313t-manylinux_2_28_x86_64.whl",
            "a-1-cp313-cp313-manylinux_2_28_aarch64.whl",
            "a-1-cp313-cp313-musllinux_1_2_x86_64.whl",
            "a-1-cp314-abi3-manylinux_2_28_x86_64.whl",
            "a-1-py3-none-manylinux_2_42_x86_64.whl",
            "a-1-py2-none-any.whl",
            "a-1-cp313-cp313-win_amd64.whl",
            "a-1-cp312-none-any.whl",
            "a-1-pp313-pypy313_pp73-manylinux_2_28_x86_64.whl",
        ] {
            assert!(rank(file).is_none(), "{file}");
        }
    }

    #[test]
    fn without_the_gil_wheels_are_its_own() {
        let base = sconce_facts::base_with("trixie", "3.13t").unwrap();
        let target = Target { machine: Machine::X86_64, base };
        assert_eq!(target.markers().unwrap().python_full_version().to_string(), "3.13.15");
        for (file, fits) in [
            ("torch-2.9.0-cp313-cp313t-manylinux_2_28_x86_64.whl", true),
            ("a-1-py3-none-any.whl", true),
            ("a-1-cp313-none-manylinux_2_28_x86_64.whl", true),
            ("a-1-cp313-cp313-manylinux_2_28_x86_64.whl", false),
            ("a-1-cp39-abi3-manylinux_2_28_x86_64.whl", false),
            ("a-1-cp314-cp314t-manylinux_2_28_x86_64.whl", false),
        ] {
            assert_eq!(target.rank(&file.parse().unwrap()).is_some(), fits, "{file}");
        }
    }

    #[test]
    fn best_first() {
        let order = [
            "a-1-cp313-cp313-manylinux_2_39_x86_64.whl",
            "a-1-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "a-1-cp312-abi3-manylinux_2_39_x86_64.whl",
            "a-1-cp38-abi3-manylinux_2_39_x86_64.whl",
            "a-1-py3-none-manylinux_2_17_x86_64.whl",
            "a-1-py3-none-any.whl",
        ];
        assert!(order.is_sorted_by_key(|file| rank(file).unwrap()));
    }
}
