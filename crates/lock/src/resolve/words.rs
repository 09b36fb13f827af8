//! What uv says when there is no solution, as far as it can be told in a line.
//!
//! uv ends its derivation with what it was asked for: "And because you require numpy<2, we can conclude
//! that your requirements are unsatisfiable." Packages without a wheel stand in hints: "Wheels are
//! required for `x` because building from source is disabled".

use crate::wheel_name::normalise;

/// The requirements that a refusal rests on, as uv writes them; `ours` are names that nobody but us asked for.
pub(super) fn culprits(words: &str, ours: &[&str]) -> Vec<String> {
    let text = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found: Vec<String> = Vec::new();
    for part in text.split("you require ").skip(1) {
        let end = [", we can", ". And", ". hint"].iter().filter_map(|end| part.find(end)).min();
        let part = end.and_then(|end| part.get(..end)).unwrap_or(part);
        for item in part.split(" and ") {
            let item = item.trim_end_matches(['.', ',']);
            let name = normalise(&name_of(item));
            let plain = !item.contains(' ') && !name.is_empty();
            if plain && !ours.contains(&name.as_str()) && !found.iter().any(|known| known == item) {
                found.push(item.to_owned());
            }
        }
    }
    found
}

/// The packages that are there as source only, as far as uv names them.
pub(super) fn source_only(words: &str) -> Vec<String> {
    let parts = words.split("Wheels are required for `").skip(1);
    let mut names: Vec<String> =
        parts.filter_map(|part| Some(part.split_once('`')?.0.to_owned())).collect();
    names.sort();
    names.dedup();
    names
}

/// The name that a requirement begins with.
pub(super) fn name_of(requirement: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    requirement.trim_start().chars().take_while(|c| plain(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requirement_that_did_it() {
        let words = "Because all of:\n  numpy==1.10.0\nhave no wheels, we can conclude that numpy<=1.26.4 cannot be used.\n\
                     And because only the following versions of numpy are available:\n  numpy<=1.26.4\n  numpy>=2\n\
                     and you require numpy<2, we can conclude that your requirements are unsatisfiable.\n\n\
                     hint: Wheels are required for `numpy` because building from source is disabled for all packages";
        assert_eq!(culprits(words, &["torch", "pip"]), ["numpy<2"]);
        assert_eq!(source_only(words), ["numpy"]);
        let words = "And because vllm==0.5.2 depends on torch==2.3.1 and you require transformers==4.30.0, we can \
                     conclude that x.\nAnd because you require vllm and torch>=2.6.0, we can conclude that y.";
        assert_eq!(culprits(words, &["torch", "pip"]), ["transformers==4.30.0", "vllm"]);
        assert_eq!(culprits(words, &["pip"]), ["transformers==4.30.0", "vllm", "torch>=2.6.0"]);
        assert!(culprits("no words", &[]).is_empty());
    }
}
