//! Documents of others as structures: an object is an object.
//!
//! serde takes an array for a structure, its fields in the order in which they are declared: then `["sha256:…", 5]` is a
//! descriptor, and a field more in the program changes what an old document means. No format has that.

use serde::Deserializer;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// What a JSON document says, an array nowhere where an object belongs.
///
/// # Errors
/// serde's.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // The first reading knows the line and column of what is wrong.
    serde_json::from_slice::<T>(bytes)?;
    of_value(serde_json::from_slice(bytes)?)
}

/// The same of a document that has been read.
///
/// # Errors
/// serde's, without a place.
pub fn of_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Objects(value))
}

struct Objects(Value);

impl<'de> IntoDeserializer<'de, Error> for Objects {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Objects {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(list) => {
                let mut list = SeqDeserializer::new(list.into_iter().map(Objects));
                let value = visitor.visit_seq(&mut list)?;
                list.end()?;
                Ok(value)
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name, Objects(value)));
                let mut fields = MapDeserializer::new(fields);
                let value = visitor.visit_map(&mut fields)?;
                fields.end()?;
                Ok(value)
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => {
                Err(Error::invalid_type(Unexpected::Other("an array"), &"an object"))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::json;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Outer {
        list: Vec<Inner>,
        #[serde(default)]
        named: BTreeMap<String, Inner>,
        maybe: Option<Inner>,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Inner {
        number: u64,
        pair: (u8, String),
        kind: Option<Kind>,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Plain,
    }

    #[test]
    fn arrays_are_lists_only() {
        let inner = r#"{"number": 18446744073709551615, "pair": [1, "a"], "kind": "plain"}"#;
        let good = format!(r#"{{"list": [{inner}], "named": {{"7": {inner}}}, "maybe": null}}"#);
        let read: Outer = json(good.as_bytes()).unwrap();
        assert_eq!(read.list[0].number, u64::MAX);
        assert_eq!(read.named["7"].kind, Some(Kind::Plain));
        assert_eq!(read.maybe, None);
        for bad in [
            r#"[[], {}, null]"#.to_owned(),
            r#"{"list": [[1, [1, "a"], "plain"]]}"#.to_owned(),
            r#"{"list": [], "maybe": [1, [1, "a"], null]}"#.to_owned(),
            format!(r#"{{"list": [], "named": {{"7": [1, [1, "a"], null]}}, "maybe": {inner}}}"#),
        ] {
            let error = json::<Outer>(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("an array, expected an object"), "{bad}: {error}");
        }
    }
}
