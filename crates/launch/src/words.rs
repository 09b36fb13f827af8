//! Words for a shell, which reads them as they are.

/// The word as a POSIX shell takes it for itself.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A line for a POSIX shell.
#[must_use]
pub fn shell_line(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_what_was_meant() {
        let words = ["echo", "a b", "it's", "", "$HOME", "x=1", "`id`", "a\nb", "*"];
        let words: Vec<String> = words.map(str::to_owned).to_vec();
        let said = std::process::Command::new("sh")
            .args([
                "-c",
                &format!("for word in {}; do printf '%s|' \"$word\"; done", shell_line(&words)),
            ])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), words.join("|") + "|");
    }
}
