//! JSON values as YAML in block style, for people; strings are quoted as JSON unless nobody could misread them.

use serde_json::Value;

/// One document.
pub(crate) fn document(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out.trim_start_matches('\n').to_owned()
}

fn write(value: &Value, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                out.push_str(&format!("\n{margin}{}:", scalar(name)));
                inner(value, indent + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&format!("\n{margin}-"));
                match item {
                    Value::Object(fields) if !fields.is_empty() => {
                        let mut text = String::new();
                        write(item, indent + 2, &mut text);
                        // The first field stands beside the dash.
                        out.push(' ');
                        out.push_str(text.trim_start_matches('\n').trim_start());
                    }
                    _ => inner(item, indent + 2, out),
                }
            }
        }
        _ => out.push_str(&plain(value)),
    }
    if indent == 0 {
        out.push('\n');
    }
}

fn inner(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => write(value, indent, out),
        Value::Array(items) if !items.is_empty() => write(value, indent, out),
        _ => {
            out.push(' ');
            out.push_str(&plain(value));
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A word that YAML 1.1 and 1.2 both read as this string, or a string as JSON writes it, which YAML reads too.
fn scalar(text: &str) -> String {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if first && rest && !word.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_what_people_write() {
        let value = json!({"a": {"b": ["x", "--n=2", {"c": 1, "d": [true, "true"]}, [], {}], "e": {}}, "8": "8"});
        expect_test::expect![[r#"
            a:
              b:
                - x
                - "--n=2"
                - c: 1
                  d:
                    - true
                    - "true"
                - []
                - {}
              e: {}
            "8": "8"
        "#]]
        .assert_eq(&document(&value));
    }
}
