//! A folder that another tool's file describes, and no sconce.toml: what is read is named, else the way, by `sconce lock` and by
//! `sconce init`.

mod index_world;

use std::fs;

use index_world::World;

/// A project of these files alone.
fn project(files: &[(&str, &str)]) -> World {
    let world = World::new(&[]);
    for name in ["sconce.toml", "sconce.lock"] {
        fs::remove_file(world.path("project").join(name)).unwrap();
    }
    for (name, text) in files {
        fs::write(world.path("project").join(name), text).unwrap();
    }
    world
}

#[track_caller]
fn says(world: &World, words: &[&str], exit: i32, expected: &[&str]) -> String {
    let (code, said) = world.sconce(words);
    assert_eq!(code, exit, "{words:?}: {said}");
    for line in expected {
        assert!(said.contains(line), "`{line}` is not in:\n{said}");
    }
    said
}

const POETRY: &str = "[tool.poetry]\nname = \"demo\"\n\n[tool.poetry.dependencies]\npython = \"^3.11\"\nnumpy = \"^1\"\n";
/// As Poetry 2 writes it.
const POETRY_2: &str = "[project]\nname = \"demo\"\ndynamic = [\"dependencies\"]\n\n[tool.poetry.dependencies]\nnumpy = \"^1\"\n";
const DYNAMIC: &str = "[project]\nname = \"demo\"\nversion = \"1\"\ndynamic = [\"dependencies\"]\n";

/// What needs a step first is named with it, by the error, by `init` and by the lock that follows.
#[test]
fn a_project_whose_dependencies_are_not_in_it() {
    for (text, way) in [
        (POETRY, "`poetry export -o requirements.txt`"),
        (POETRY_2, "`poetry export -o requirements.txt`"),
        (DYNAMIC, "`uv pip compile pyproject.toml -o requirements.txt`"),
    ] {
        let world = project(&[("pyproject.toml", text)]);
        let named = format!("pyproject.toml: {way}");
        says(&world, &["lock"], 3, &["has no sconce.toml", &named]);
        let named = format!("note: pyproject.toml is not read: {way}");
        says(&world, &["init"], 0, &["wrote ./sconce.toml", &named]);
        // The environment that this makes is empty, and it is said.
        let toml = fs::read_to_string(world.path("project/sconce.toml")).unwrap();
        assert!(!toml.lines().any(|line| line.starts_with("requirements")), "{toml}");
        let toml = toml.replace("\n#torch = ", "\ntorch = false #");
        fs::write(world.path("project/sconce.toml"), toml).unwrap();
        // What it is for is known before, so that nothing is asked of Debian.
        world.first_lock("sconce.lock", "x86_64", "3.13");
        says(&world, &["lock"], 0, &[&named]);
    }
    // The file that the way makes is read, and nothing is said of the other.
    let world = project(&[("pyproject.toml", POETRY), ("requirements.txt", "a\n")]);
    let said = says(&world, &["init"], 0, &["which reads requirements.txt"]);
    assert!(!said.contains("poetry"), "{said}");
    // Settings of tools ask for nothing.
    let world = project(&[("pyproject.toml", "[tool.ruff]\nline-length = 100\n")]);
    let said = says(&world, &["init"], 0, &[]);
    assert!(!said.contains("pyproject.toml"), "{said}");
}

/// A pylock.toml alone is read; a uv.lock alone is not.
#[test]
fn locks_of_other_tools() {
    let world = project(&[("pylock.toml", "lock-version = \"1.0\"\n")]);
    // A project without a sconce.toml is one with torch.
    says(&world, &["lock"], 3, &["pylock.toml says what is needed", "it has no torch"]);
    says(&world, &["init"], 0, &["sconce.toml, which reads pylock.toml"]);
    let toml = fs::read_to_string(world.path("project/sconce.toml")).unwrap();
    assert!(toml.contains("\nrequirements = \"pylock.toml\""), "{toml}");

    let world = project(&[("uv.lock", "version = 1\n")]);
    let way = "uv.lock: it is read with the pyproject.toml that it was made from";
    says(&world, &["lock"], 3, &["has no sconce.toml", way]);
}
