//! What a manifest that is pushed must have (image-spec 1.1, "Image Manifest Property Descriptions"): clients that pull it may be stricter than
//! sconce is itself with what others have pushed elsewhere.

use sconce_oci::{Document, INDEX, MANIFEST, Role, role};
use serde_json::Value;

/// That the fields are there which each version of the specification asks for, and of their types. `bytes` were read as a document.
pub(crate) fn check_fields(bytes: &[u8]) -> Result<(), String> {
    let Ok(Value::Object(document)) = serde_json::from_slice(bytes) else {
        return Err("it is no JSON object".to_owned());
    };
    if document.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err("its schemaVersion is not 2".to_owned());
    }
    let is_index = document.contains_key("manifests");
    let list = if is_index { "manifests" } else { "layers" };
    if !document.get(list).is_some_and(Value::is_array) {
        return Err(format!("its `{list}` are no list"));
    }
    // One that is something else would be passed over, and what is about another image taken for an image.
    match document.get("subject") {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => Err("its `subject` is no descriptor".to_owned()),
    }
}

/// That `Content-Type`, the document's own word and what it holds are of one kind: clients go by the first of them that they meet.
pub(crate) fn check_type(said: Option<&str>, document: &Document) -> Result<(), String> {
    let (own, wanted) = match document {
        Document::Manifest(manifest) => (manifest.media_type.as_deref(), Role::Manifest),
        Document::Index(index) => (index.media_type.as_deref(), Role::Index),
    };
    // Without its parameters (RFC 9110, section 8.3.1).
    let said =
        said.and_then(|said| said.split(';').next()).map(str::trim).filter(|s| !s.is_empty());
    let fits = |kind: &str| role(kind) == Some(wanted);
    match (said, own.filter(|own| !own.is_empty())) {
        (Some(said), _) if !fits(said) => {
            Err("the Content-Type is not that of what was sent".to_owned())
        }
        (_, Some(own)) if !fits(own) => {
            Err("its mediaType is not that of what it holds".to_owned())
        }
        (Some(said), Some(own)) if said != own => {
            Err(format!("the Content-Type is {said}, its own mediaType {own}"))
        }
        // Where nothing is said it is OCI's.
        (Some(said), None) if !matches!(said, MANIFEST | INDEX) => {
            Err(format!("the Content-Type is {said}, and it has no mediaType of its own"))
        }
        _ => Ok(()),
    }
}
