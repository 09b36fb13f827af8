//! What differs between an earlier result and this run, the figures apart.

use super::Baseline;
use crate::answer::Gpu as Now;
use crate::sentence::Sentence;

impl Baseline {
    /// It has none of these GPUs, or not all of them.
    pub fn lacks(&self, now: &[Now]) -> Option<Sentence> {
        let all = |numbers: &mut dyn Iterator<Item = u32>| {
            let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
            if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") }
        };
        let same = |now: &Now| self.gpus.iter().any(|then| then.gpu == now.gpu);
        let then = all(&mut self.gpus.iter().map(|gpu| gpu.gpu));
        if now.is_empty() || now.iter().all(same) {
            return None;
        }
        if now.iter().any(same) {
            let new = all(&mut now.iter().filter(|now| !same(now)).map(|gpu| gpu.gpu));
            return Some(Sentence::new(
                format!(
                    "it does not have GPU {new}, it is of GPU {then}: nothing of GPU {new} is compared"
                ),
                format!("它没有 GPU {new}，它是 GPU {then} 的：GPU {new} 不作比较"),
            ));
        }
        let now = all(&mut now.iter().map(|gpu| gpu.gpu));
        Some(Sentence::new(
            format!(
                "it has no GPU that is measured (GPU {now}), it is of GPU {then}: nothing of a GPU is compared"
            ),
            format!("它没有现在测量的 GPU（GPU {now}），它是 GPU {then} 的：无法比较"),
        ))
    }

    /// It was measured with other repeats and shapes.
    pub fn other_effort(&self, now: &str) -> Option<Sentence> {
        let then = self.effort.as_deref().filter(|then| *then != now)?;
        Some(Sentence::new(
            format!("the effort was `{then}`, and is `{now}`: other repeats and shapes"),
            format!("当时的测量档位是 `{then}`，现在是 `{now}`：重复次数和形状不同"),
        ))
    }

    /// It was measured in another image.
    pub fn other_image(&self, now: &str) -> Option<Sentence> {
        let then = self.image.as_deref().filter(|then| *then != now)?;
        Some(Sentence::new(
            format!("the image was {then}, and is {now}"),
            format!("当时的镜像是 {then}，现在是 {now}"),
        ))
    }

    /// It was measured with another torch, or one of the two does not say.
    pub fn other_torch(&self, now: Option<&str>) -> Option<Sentence> {
        match (self.torch.as_deref(), now) {
            (then, now) if then == now => None,
            (Some(then), Some(now)) => Some(Sentence::new(
                format!("torch was {then}, and is {now}"),
                format!("当时的 torch 是 {then}，现在是 {now}"),
            )),
            (Some(then), None) => Some(Sentence::new(
                format!("torch was {then}, and none is found now"),
                format!("当时的 torch 是 {then}，现在没有找到 torch"),
            )),
            (None, now) => Some(Sentence::new(
                format!(
                    "torch is {}, and the earlier result does not say which it had",
                    now.unwrap_or_default()
                ),
                format!("现在的 torch 是 {}，而先前的结果没有说明", now.unwrap_or_default()),
            )),
        }
    }

    /// What a GPU of that number was, where it is another product now or has another driver.
    pub fn other_gpu(&self, now: &Now) -> Vec<Sentence> {
        let driver = || {
            let then = self.gpus.iter().find(|then| then.gpu == now.gpu)?;
            match (then.driver.as_deref(), now.driver.as_deref()) {
                (then, now) if then == now => None,
                (Some(then), Some(now)) => Some(Sentence::new(
                    format!("the driver was {then}, and is {now}"),
                    format!("当时的驱动是 {then}，现在是 {now}"),
                )),
                (Some(then), None) => Some(Sentence::new(
                    format!("the driver was {then}, and NVML does not say now which it is"),
                    format!("当时的驱动是 {then}，现在 NVML 没有说明"),
                )),
                (None, now) => Some(Sentence::new(
                    format!(
                        "the driver is {}, and the earlier result does not say which it had",
                        now.unwrap_or_default()
                    ),
                    format!("现在的驱动是 {}，而先前的结果没有说明", now.unwrap_or_default()),
                )),
            }
        };
        self.other_product(now).into_iter().chain(driver()).collect()
    }

    /// What a GPU of that number was, where it is another product now, or shows another part of it.
    pub(crate) fn other_product(&self, now: &Now) -> Option<Sentence> {
        let then = self.gpus.iter().find(|then| then.gpu == now.gpu)?;
        let (number, name) = (now.gpu, &now.name);
        if then.name != *name {
            let then = &then.name;
            return Some(Sentence::new(
                format!("GPU {number} was {then}, and is {name}: two kinds of GPU are compared"),
                format!("GPU {number} 当时是 {then}，现在是 {name}：比较的是两种 GPU"),
            ));
        }
        let (had, has) = (then.sm_count.filter(|had| *had != now.sm_count)?, now.sm_count);
        Some(Sentence::new(
            format!("GPU {number} had {had} multiprocessors, and has {has}"),
            format!("GPU {number} 当时有 {had} 个多处理器，现在有 {has} 个"),
        ))
    }
}
