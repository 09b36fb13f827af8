//! Extras that are asked for and that a package does not have: uv takes it without them, and would say so were it asked to.

use super::Resolution;
use crate::document::Wheel;
use crate::target::Target;
use crate::wheel_name::normalise;

impl Resolution<'_> {
    /// Says which extras of the requirements' packages there are not (core metadata, `Provides-Extra`).
    pub(super) fn tell_extras(&mut self, wheels: &[Wheel], target: Target) {
        let asked = self.direct(target).into_iter().filter(|direct| !direct.extras.is_empty());
        let asked: Vec<_> = asked
            .filter_map(|direct| {
                let wheel = wheels.iter().find(|wheel| wheel.name == direct.name)?;
                Some((direct, wheel.clone()))
            })
            .collect();
        let those: Vec<Wheel> = asked.iter().map(|(_, wheel)| wheel.clone()).collect();
        let answers = self.index.extras(&those);
        for ((direct, Wheel { name, version, .. }), answer) in asked.iter().zip(answers) {
            // Why a wheel could not be asked is said where its files are compared with those of others.
            let Ok(has) = answer else { continue };
            let has: Vec<String> = has.iter().map(|extra| normalise(extra)).collect();
            for extra in direct.extras.iter().filter(|extra| !has.contains(&normalise(extra))) {
                let own = match has.is_empty() {
                    true => "it has none".to_owned(),
                    false => format!("it has {}", has.join(", ")),
                };
                self.explanation.note(format!("{name} {version} has no extra `{extra}`: {own}"));
            }
        }
    }
}
