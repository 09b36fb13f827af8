//! Any bytes as a layer, a `docker save` archive and a zip file.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sconce_inspect::read::ReadAt;
use sconce_inspect::{Tree, archive, zip};

fuzz_target!(|bytes: &[u8]| {
    let bytes: Arc<dyn ReadAt> = Arc::new(bytes.to_vec());
    let _ = archive::add_layer(&mut Tree::new(), "fuzz", &bytes, 4);
    let _ = archive::docker_archive("fuzz", &bytes);
    let mut tree = Tree::new();
    if zip::add_wheel(&mut tree, "fuzz", &bytes, "").is_ok() {
        let paths: Vec<String> = tree.files().map(|(path, _)| path.to_owned()).collect();
        for path in paths {
            assert!(!path.split('/').any(|part| part == ".." || part.is_empty()), "{path}");
            tree.text(&path, 1 << 20);
        }
    }
});
