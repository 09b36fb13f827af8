//! What a target is taken for.

use std::fs;

use super::*;

#[test]
fn one_place_decides() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for name in ["project", "layout", "plain", "both"] {
        fs::create_dir(at(name)).unwrap();
    }
    for name in ["project/sconce.toml", "both/sconce.toml", "x.tar", "x.whl"] {
        fs::write(at(name), "").unwrap();
    }
    for name in ["layout/oci-layout", "both/oci-layout"] {
        fs::write(at(name), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    fs::write(at("unnamed"), tar).unwrap();
    let kind = |text: &str| Target::find(text).unwrap().kind();
    for (text, expected) in [
        (at("project"), Kind::Folder),
        (at("both"), Kind::Folder),
        (at("layout"), Kind::Layout),
        (format!("oci:{}:v1", at("layout")), Kind::Layout),
        (at("x.tar"), Kind::Archive),
        (at("unnamed"), Kind::Archive),
        ("docker-archive:nowhere.tar".into(), Kind::Archive),
        ("docker-archive:-".into(), Kind::Archive),
        ("-".into(), Kind::Archive),
        (at("x.whl"), Kind::Path),
        (at("plain"), Kind::Path),
        ("torch:2.9.1".into(), Kind::Tag),
        ("torch".into(), Kind::Tag),
        ("mine".into(), Kind::Image),
        ("mine:1".into(), Kind::Image),
        ("0123456789ab".into(), Kind::Image),
        ("nvcr.io/nvidia/pytorch:24.01-py3".into(), Kind::Reference),
        ("docker://alpine".into(), Kind::Reference),
        ("docker:24".into(), Kind::Image),
        ("store:lab/x:1".into(), Kind::Image),
        ("store:torch:2.15.0".into(), Kind::Image),
    ] {
        assert_eq!(kind(&text), expected, "{text}");
    }
    assert!(matches!(Target::find("./nowhere"), Err(Error::NoPath(_))));
    let Target::Layout { path, tag } = Target::find("oci:some/dir:v1").unwrap() else { panic!() };
    assert_eq!((path, tag.as_deref()), ("some/dir".into(), Some("v1")));
}

#[test]
fn a_folder_without_a_project_is_no_image() {
    for text in [".", "..", "./"] {
        let error = Target::find_for(text, "run", Kind::STARTABLE).unwrap_err();
        assert!(error.to_string().contains("has no sconce.toml"), "{text}: {error}");
    }
    // Where it says what it needs it is a project, to whom projects are built for.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("requirements.txt"), "numpy\n").unwrap();
    let text = folder.path().display().to_string();
    assert_eq!(Target::find_for(&text, "run", Kind::STARTABLE).unwrap().kind(), Kind::Folder);
    assert_eq!(Target::find(&text).unwrap().kind(), Kind::Path);
    // By its bare name too, which an image might have, and whichever file it is.
    for file in ["requirements.txt", "pyproject.toml", "environment.yml"] {
        let name = tempfile::Builder::new().prefix("rq").tempdir_in(".").unwrap();
        let text = match file {
            "pyproject.toml" => "[project]\nname = \"a\"\ndependencies = [\"numpy\"]\n",
            "environment.yml" => "dependencies:\n  - numpy\n",
            _ => "numpy\n",
        };
        fs::write(name.path().join(file), text).unwrap();
        let bare = name.path().file_name().unwrap().to_str().unwrap();
        for takes in [Kind::STARTABLE, Kind::BUILDABLE, Kind::JUDGED] {
            let found = Target::find_for(bare, "run", takes).unwrap();
            assert_eq!(found.kind(), Kind::Folder, "{file}");
        }
    }
    // The test's own folder has a name that an image may have.
    assert_eq!(Target::find_for("src", "run", Kind::STARTABLE).unwrap().kind(), Kind::Path);
}

#[test]
fn an_image_of_nvidias_is_a_tag_to_who_can_not_read_it() {
    let name = "nvcr.io/nvidia/pytorch:24.05-py3";
    let tag = Target::find_for(name, "run", Kind::STARTABLE).unwrap();
    let project = tag.project().unwrap();
    assert_eq!(project.name().as_deref(), Some(name));
    let (known, not) = (Target::find_for(name, "x", &[Kind::Reference, Kind::Tag]), "23.01");
    assert_eq!(known.unwrap().kind(), Kind::Reference);
    let unknown = name.replace("24.05", not);
    let error = Target::find_for(&unknown, "run", Kind::STARTABLE).unwrap_err();
    assert!(error.to_string().contains("not known here"), "{error}");
}

#[test]
fn what_a_command_can_not_take_is_refused_in_a_sentence() {
    let refused = |text: &str, takes| {
        let error = Target::find_for(text, "build", takes).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default())
    };
    let (words, hint) = refused("ghcr.io/a/b:1", Kind::BUILDABLE);
    assert_eq!(
        words,
        "`sconce build` takes a folder with a sconce.toml or a tag such as torch:2.15.0; `ghcr.io/a/b:1` is an image in a registry"
    );
    assert!(hint.contains("sconce inspect ghcr.io/a/b:1"), "{hint}");
    assert!(Target::find_for("docker://alpine:3", "run", Kind::STARTABLE).is_ok());
    assert!(refused("mine", Kind::BUILDABLE).0.ends_with("`mine` is neither of them"));
}
