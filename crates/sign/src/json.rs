//! JSON that means one thing: a name that stands twice in an object is refused. Readers take the first, the last
//! or both, and what one of them verifies another would understand otherwise.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};

/// Reads a document.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<Unique>(bytes)?;
    serde_json::from_slice(bytes)
}

/// Any value of which no object has a name twice.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Look).map(|()| Self)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<Unique>()?;
            if let Some(twice) = names.replace(name) {
                return Err(de::Error::custom(format!("`{twice}` stands there twice")));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<Unique>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn names_that_stand_there_twice() {
        for (text, good) in [
            (r#"{"a":1,"b":[{"a":null},{"a":true}],"c":{"a":-1,"A":1.5}}"#, true),
            ("[]", true),
            (r#"{"a":1,"a":1}"#, false),
            (r#"[{"b":{"a":1,"c":2,"a":1}}]"#, false),
            (r#"{"a":1,"\u0061":2}"#, false),
            ("{", false),
        ] {
            assert_eq!(parse::<IgnoredAny>(text.as_bytes()).is_ok(), good, "{text}");
        }
    }
}
