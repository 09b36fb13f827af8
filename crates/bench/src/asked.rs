//! What a program was asked to measure. What it says beyond that is refused: one that measures through an image's torch
//! must not be able to answer for the GPU's memory.

use std::collections::BTreeSet;

use crate::answer::{Figure, Line};
use crate::figures::{GPUS, Group, NVML, figure};

/// What a program was asked, and has said.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    groups: Vec<Group>,
    only: Vec<String>,
    lists: bool,
    /// NVML is asked meanwhile.
    watches: bool,
    /// It has said which torch there is.
    torch: bool,
    gpus: BTreeSet<u32>,
    answered: BTreeSet<(String, Vec<u32>)>,
}

impl Asked {
    /// The figures of these groups; of those only these, where some are named.
    pub fn of(groups: &[Group], only: &[String]) -> Self {
        Self { groups: groups.to_vec(), only: only.to_vec(), ..Self::default() }
    }

    /// The GPUs as well.
    pub fn and_gpus(self) -> Self {
        Self { lists: true, ..self }
    }

    /// NVML as well, which may fall silent.
    pub fn and_nvml(self) -> Self {
        Self { watches: true, ..self }
    }

    /// The GPUs that there are are these.
    pub fn on(self, gpus: impl IntoIterator<Item = u32>) -> Self {
        Self { gpus: gpus.into_iter().collect(), ..self }
    }

    /// Takes an answer, or says why not.
    ///
    /// # Errors
    /// It is one to what nobody asked.
    pub fn take(&mut self, line: &Line) -> Result<(), String> {
        match line {
            Line::Gpu(gpu) if !self.lists => {
                Err(format!("it says what GPU {} is, which nobody asked of it", gpu.gpu))
            }
            Line::Gpu(gpu) => match self.gpus.insert(gpu.gpu) {
                true => Ok(()),
                false => Err(format!("it says twice what GPU {} is", gpu.gpu)),
            },
            Line::Torch(_) if !self.lists => {
                Err("it says which torch there is, which nobody asked of it".to_owned())
            }
            Line::Torch(_) => match std::mem::replace(&mut self.torch, true) {
                false => Ok(()),
                true => Err("it says twice which torch there is".to_owned()),
            },
            Line::Figure(figure) => self.figure(figure),
            Line::Unavailable(one) | Line::Wrong(one) => {
                self.named(&one.figure).and_then(|()| self.shown(&one.figure, &one.gpus))
            }
            Line::Moment(moment) => self.named(&moment.figure),
        }
    }

    fn figure(&mut self, one: &Figure) -> Result<(), String> {
        self.named(&one.figure)?;
        let name = &one.figure;
        if !self.only.is_empty() && !self.only.contains(name) {
            return Err(unasked(name));
        }
        self.shown(name, &one.gpus)?;
        let row = figure(name);
        let of_gpu = row.is_some_and(|row| !row.group.without_gpu());
        let mut distinct = one.gpus.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if of_gpu && one.gpus.is_empty() || distinct.len() != one.gpus.len() {
            return Err(format!("it answered for `{name}` of GPUs {:?}", one.gpus));
        }
        let by_torch = row.is_some_and(|row| row.group.by_torch());
        // The first is what a program through torch measures.
        if by_torch && one.gpus.iter().any(|gpu| Some(gpu) != self.gpus.first()) {
            return Err(format!("it answered for `{name}` of GPUs {:?}", one.gpus));
        }
        match self.answered.insert((name.clone(), one.gpus.clone())) {
            true => Ok(()),
            false => Err(format!("it answered twice for `{name}`")),
        }
    }

    /// All of these are GPUs that there are.
    fn shown(&self, name: &str, gpus: &[u32]) -> Result<(), String> {
        match gpus.iter().find(|gpu| !self.gpus.contains(gpu)) {
            Some(gpu) => {
                Err(format!("it answered for `{name}` of GPU {gpu}, which CUDA does not show"))
            }
            None => Ok(()),
        }
    }

    /// A figure of a group that was asked, or the group.
    fn named(&self, name: &str) -> Result<(), String> {
        let of_group = |group: &Group| {
            group.name() == name || figure(name).is_some_and(|row| row.group == *group)
        };
        let listed = self.lists && [GPUS, NVML].contains(&name);
        let watched = name == NVML && self.watches;
        let asked = listed || watched || self.groups.iter().any(of_group);
        if asked { Ok(()) } else { Err(unasked(name)) }
    }
}

fn unasked(name: &str) -> String {
    let name: String = name.escape_debug().take(64).collect();
    format!("it answered for `{name}`, which nobody asked of it")
}
