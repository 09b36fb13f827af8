//! The options of `run` as people write them, read without touching the machine.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// `-v SOURCE:TARGET[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The folder or file of the host; relative to the caller's working directory until
    /// [`crate::run`] looks it up, and made as a folder if it is missing.
    pub source: PathBuf,
    /// Where it is inside: an absolute path.
    pub target: PathBuf,
    /// It cannot be written to from inside.
    pub read_only: bool,
    /// The source was resolved before, to an absolute path without links: one that is in it by now is
    /// refused, and not followed.
    #[serde(default)]
    pub resolved: bool,
}

impl std::str::FromStr for Volume {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self, Error> {
        let invalid = |why: String| Error::Invalid { option: "-v", given: given.to_owned(), why };
        let parts: Vec<&str> = given.split(':').collect();
        let (source, target, options) = match parts.as_slice() {
            [source, target] => (*source, *target, ""),
            [source, target, options] => (*source, *target, *options),
            _ => return Err(invalid("write HOST:CONTAINER or HOST:CONTAINER:ro".to_owned())),
        };
        if source.is_empty() {
            return Err(invalid("the folder of this machine is missing".to_owned()));
        }
        if !source.contains('/') && source != "." && source != ".." {
            return Err(invalid(format!(
                "there are no named volumes; write ./{source} for a folder here"
            )));
        }
        let mut read_only = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = true,
                // SELinux labels and macOS caching: nothing to do, and common in examples.
                "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "rprivate" => {}
                _ => {
                    return Err(invalid(format!(
                        "'{option}' is not an option; there are ro and rw"
                    )));
                }
            }
        }
        let target = PathBuf::from(target);
        absolute("-v", given, &target)?;
        if target == Path::new("/") {
            return Err(invalid("the whole root cannot be replaced".to_owned()));
        }
        // One spelling: a slash at its end would ask for a folder where a file is mounted.
        let target = target.components().collect();
        Ok(Self { source: source.into(), target, read_only, resolved: false })
    }
}

/// Checks a path inside the container: absolute, and without `..`.
pub(crate) fn absolute(option: &'static str, given: &str, path: &Path) -> Result<(), Error> {
    let invalid =
        |why: &str| Err(Error::Invalid { option, given: given.to_owned(), why: why.to_owned() });
    if !path.is_absolute() {
        return invalid("the path in the container must start with /");
    }
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return invalid("the path in the container must not hold '..'");
    }
    Ok(())
}

/// `-p [ADDRESS:]HOST:CONTAINER`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's address to listen on; all of them if not given.
    pub address: Option<std::net::IpAddr>,
    /// The port of the host.
    pub host: u16,
    /// The port inside.
    pub container: u16,
}

impl std::str::FromStr for Port {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::Invalid {
            option: "-p",
            given: given.to_owned(),
            why: why.to_owned(),
        };
        let ports = match given.rsplit_once('/') {
            None | Some((_, "tcp")) => given.trim_end_matches("/tcp"),
            Some((_, "udp")) => {
                return Err(invalid(
                    "only TCP ports are published: with the host's network a UDP port inside is one of this machine already, and with --network private none is reached",
                ));
            }
            Some(_) => return Err(invalid("only TCP ports can be forwarded")),
        };
        let number = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(invalid("ports are numbers from 1 to 65535, as in 8080:6006")),
        };
        let Some((rest, container)) = ports.rsplit_once(':') else {
            let port = number(ports)?;
            return Ok(Self { address: None, host: port, container: port });
        };
        let (address, host) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, host)) => {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                let address = address.parse().map_err(|_| invalid("that is no IP address"))?;
                (Some(address), host)
            }
        };
        Ok(Self { address, host: number(host)?, container: number(container)? })
    }
}

/// A size in bytes: `1073741824`, `512m`, `8g`, `8GiB`; the units are powers of 1024, as
/// Docker has them. `option` is named in the error.
pub fn parse_size(option: &'static str, given: &str) -> Result<u64, Error> {
    let invalid =
        |why: &str| Error::Invalid { option, given: given.to_owned(), why: why.to_owned() };
    let split = given.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(given.len());
    let (digits, unit) = given.split_at(split);
    let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(invalid("sizes are numbers with k, m, g or t, as in 8g")),
    };
    let bytes = match digits.parse::<u64>() {
        Ok(whole) => whole.checked_mul(scale),
        Err(_) => digits
            .parse::<f64>()
            .ok()
            .map(|number| number * scale as f64)
            .filter(|bytes| *bytes < u64::MAX as f64)
            .map(|bytes| bytes as u64),
    };
    match bytes {
        Some(0) => Err(invalid("it must be more than nothing")),
        Some(bytes) => Ok(bytes),
        None => Err(invalid("sizes are numbers with k, m, g or t, as in 8g")),
    }
}

/// A number of processors: `2`, `0.5`.
pub fn parse_cpus(given: &str) -> Result<f64, Error> {
    match given.parse::<f64>() {
        Ok(cpus) if cpus.is_finite() && (0.01..=65536.0).contains(&cpus) => Ok(cpus),
        _ => Err(Error::Invalid {
            option: "--cpus",
            given: given.to_owned(),
            why: "write a number of processors, as in 4 or 0.5".to_owned(),
        }),
    }
}

/// `-e NAME=VALUE`, or `-e NAME` to take the value from `host`. No value where the host has
/// none: the container has no such variable then, also when the image does, as in Docker.
pub fn parse_env(
    given: &str,
    host: impl Fn(&str) -> Option<String>,
) -> Result<(String, Option<String>), Error> {
    let (name, value) = match given.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (given, host(given)),
    };
    if name.is_empty() || given.contains('\0') {
        return Err(Error::Invalid {
            option: "-e",
            given: given.to_owned(),
            why: "write NAME=VALUE, or NAME to pass this machine's value on".to_owned(),
        });
    }
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let volume = |given: &str| given.parse::<Volume>();
        let same = |source: &str, target: &str, read_only| Volume {
            source: source.into(),
            target: target.into(),
            read_only,
            resolved: false,
        };
        assert_eq!(volume("./data:/data").expect("valid"), same("./data", "/data", false));
        assert_eq!(volume("/a/b:/c:ro,z").expect("valid"), same("/a/b", "/c", true));
        assert_eq!(volume(".:/app:rw").expect("valid"), same(".", "/app", false));
        for bad in
            ["", "/a", "data:/data", "/a:b", "/a:/../b", "/a:/b:rox", "/a:/b:ro:x", ":/b", "/a:/"]
        {
            let error = volume(bad).expect_err(bad);
            assert_eq!(error.exit_code(), 125);
        }
        let named = volume("data:/data").expect_err("named").to_string();
        assert!(named.contains("./data"), "{named}");
    }

    #[test]
    fn ports() {
        let port = |given: &str| given.parse::<Port>();
        let same = |address: Option<&str>, host, container| Port {
            address: address.map(|a| a.parse().expect("an address")),
            host,
            container,
        };
        assert_eq!(port("6006:6006").expect("valid"), same(None, 6006, 6006));
        assert_eq!(port("6006").expect("valid"), same(None, 6006, 6006));
        assert_eq!(port("8080:6006/tcp").expect("valid"), same(None, 8080, 6006));
        assert_eq!(port("127.0.0.1:80:81").expect("valid"), same(Some("127.0.0.1"), 80, 81));
        assert_eq!(port("[::1]:80:81").expect("valid"), same(Some("::1"), 80, 81));
        for bad in ["", "0:1", "1:65536", "a:b", "x:1:2", "1:2/udp", "1-2:3-4"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        let size = |given: &str| parse_size("--shm-size", given);
        assert_eq!(size("8g").expect("valid"), 8 << 30);
        assert_eq!(size("8GiB").expect("valid"), 8 << 30);
        assert_eq!(size("64m").expect("valid"), 64 << 20);
        assert_eq!(size("0.5g").expect("valid"), 512 << 20);
        assert_eq!(size("4096").expect("valid"), 4096);
        for bad in ["", "0", "g", "-1g", "1x", "1.2.3g", "99999999999t", "NaN", "1e9g"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn environment() {
        let host = |name: &str| (name == "KEY").then(|| "from here".to_owned());
        let pair = |k: &str, v: &str| (k.to_owned(), Some(v.to_owned()));
        assert_eq!(parse_env("A=b=c", host).expect("valid"), pair("A", "b=c"));
        assert_eq!(parse_env("A=", host).expect("valid"), pair("A", ""));
        assert_eq!(parse_env("KEY", host).expect("valid"), pair("KEY", "from here"));
        assert_eq!(parse_env("OTHER", host).expect("valid"), ("OTHER".to_owned(), None));
        assert!(parse_env("=x", host).is_err());
        assert!(parse_env("", host).is_err());
    }
}
