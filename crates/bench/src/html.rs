//! A run as one page of HTML with its charts, in English and Chinese: no script, nothing from elsewhere.

mod chart;

use std::fmt::Write;

use crate::comparison::{Changed, Comparison};
use crate::figures::{FIGURES, Group, Row};
use crate::judge::{Judged, Verdict};
use crate::report::{Report, about, is_low, is_open, named, number, once};
use crate::sentence::Sentence;
use chart::chart;

/// Groups, as headings.
const HEADINGS: &[(Group, &str, &str)] = &[
    (Group::Products, "Matrix products", "矩阵乘"),
    (Group::Sparse, "2:4 sparse products", "2:4 稀疏矩阵乘"),
    (Group::Convolution, "Convolution", "卷积"),
    (Group::Memory, "Device memory", "显存"),
    (Group::Host, "Host and device", "主机与设备之间"),
    (Group::Peers, "GPU to GPU", "GPU 之间"),
    (Group::Collectives, "NCCL", "NCCL"),
    (Group::Latency, "Launches", "内核启动"),
    (Group::Torch, "Operators through torch", "经 torch 的算子"),
    (Group::Training, "Training a transformer block", "训练一个 Transformer 层"),
    (Group::Small, "Training a small model", "训练一个小模型"),
    (Group::Loader, "DataLoader", "DataLoader"),
    (Group::Burn, "Burn", "持续加压"),
];

impl Report {
    /// The page.
    pub fn html(&self) -> String {
        let mut page = HEAD.to_owned();
        let compared = self.figures.iter().any(|one| one.verdict.is_known());
        let state = match (self.holds(), self.wrong.is_empty()) {
            (true, _)
                if compared && self.open().is_empty() && !self.in_part() && !self.interrupted =>
            {
                "good"
            }
            (true, _) => "open",
            (false, true) => "low",
            (false, false) => "wrong",
        };
        _ = write!(page, "<h1>{}</h1>", escaped(&self.target));
        let (en, zh) = (self.verdict(), self.verdict_zh());
        _ = writeln!(page, "<p class=\"verdict {state}\">{}</p><ul>", both(&en, &zh));
        for gpu in &self.gpus {
            _ = writeln!(page, "<li>{}</li>", escaped(&about(gpu)));
        }
        if let Some(image) = &self.image {
            _ = writeln!(page, "<li>{}: {}</li>", both("image", "镜像"), escaped(image));
        }
        if let Some(torch) = &self.torch {
            _ = writeln!(page, "<li>torch {}</li>", escaped(torch));
        }
        _ = writeln!(page, "<li>sconce {}</li></ul>", escaped(&self.sconce));
        if let Some(comparison) = &self.comparison {
            beside(&mut page, comparison);
        }
        if !self.advice.is_empty() {
            _ = writeln!(page, "<h2>{}</h2><ul>", both("Advice", "建议"));
            for one in &self.advice {
                _ = writeln!(page, "<li>{}</li>", both(&one.en, &one.zh));
            }
            page.push_str("</ul>\n");
        }
        for (group, en, zh) in HEADINGS {
            self.group(&mut page, *group, &both(en, zh));
        }
        let lists = [
            (&self.wrong, both("Wrong results", "错误的结果")),
            (&self.unavailable, both("Not measured", "未测量")),
        ];
        for (all, title) in lists {
            if !all.is_empty() {
                _ = writeln!(page, "<h2>{title}</h2><ul>");
                for one in all {
                    let (figure, reason) = (escaped(&one.named()), escaped(&one.reason));
                    _ = writeln!(page, "<li><code>{figure}</code>: {reason}</li>");
                }
                page.push_str("</ul>\n");
            }
        }
        if !self.remarks.is_empty() {
            _ = writeln!(page, "<h2>{}</h2><ul>", both("Not an answer", "不是回答的内容"));
            for one in &self.remarks {
                _ = writeln!(page, "<li>{}</li>", escaped(one));
            }
            page.push_str("</ul>\n");
        }
        page.push_str(TAIL);
        page
    }

    fn group(&self, page: &mut String, group: Group, title: &str) {
        let rows: Vec<&Row> = FIGURES.iter().filter(|row| row.group == group).collect();
        let ours: Vec<(&Row, &Judged)> = self
            .figures
            .iter()
            .filter_map(|one| Some((*rows.iter().find(|row| row.name == one.figure.figure)?, one)))
            .collect();
        if ours.is_empty() {
            return;
        }
        _ = writeln!(page, "<h2>{title}</h2>");
        page.push_str("<table>\n");
        for (row, one) in &ours {
            let value = |one: &Judged| match &one.verdict {
                Verdict::AsExpected { with }
                | Verdict::AboveFloor { with }
                | Verdict::Low { with, .. } => one.figure.value.max(with.value),
                Verdict::Unknown { .. } => one.figure.value,
            };
            let same = ours.iter().filter(|(other, _)| other.unit == row.unit);
            let most = same.map(|(_, one)| value(one)).fold(0.0, f64::max);
            self.row(page, row, one, most);
        }
        page.push_str("</table>\n");
        let curves: Vec<(&str, &[(f64, f64)])> = ours
            .iter()
            .filter(|(_, one)| one.figure.curve.len() > 1)
            .map(|(row, one)| (row.name, one.figure.curve.as_slice()))
            .collect();
        if !curves.is_empty() {
            let unit = ours.iter().find(|(_, one)| one.figure.curve.len() > 1);
            let unit = unit.map_or("", |(row, _)| row.unit);
            let across = match group {
                Group::Loader => both("workers", "工作进程数"),
                Group::Host => both("NUMA node", "NUMA 节点"),
                _ => both("bytes", "字节"),
            };
            chart(page, &curves, unit, &across);
        }
    }

    fn row(&self, page: &mut String, row: &Row, one: &Judged, most: f64) {
        let share = |value: f64| if most > 0.0 { (value / most * 100.0).min(100.0) } else { 0.0 };
        let (mark, verdict, class) = match &one.verdict {
            Verdict::AsExpected { with } => (Some(with), both("as expected", "符合预期"), "good"),
            Verdict::AboveFloor { with } => {
                (Some(with), both("above DCGM's floor", "高于 DCGM 的下限"), "")
            }
            Verdict::Low { with, causes } if causes.is_empty() => {
                (Some(with), both("low, without a known cause", "偏低，原因不明"), "low")
            }
            Verdict::Low { with, causes } => {
                let all = |of: fn(&Sentence) -> &str, between: &str| {
                    causes.iter().map(of).collect::<Vec<_>>().join(between)
                };
                let (en, zh) = (all(|one| &one.en, "; "), all(|one| &one.zh, "；"));
                (Some(with), both(&format!("low: {en}"), &format!("偏低：{zh}")), "low")
            }
            Verdict::Unknown { because } => {
                let (en, zh) = (&because.en, &because.zh);
                (None, both(&format!("can't tell: {en}"), &format!("无法判断：{zh}")), "")
            }
        };
        let mark = mark.map(|with| {
            format!(
                "<i style=\"left:{:.1}%\" title=\"{} {} ({}: {})\"></i>",
                share(with.value),
                number(with.value),
                row.unit,
                escaped(&with.what),
                escaped(with.source)
            )
        });
        let siblings = one.below_siblings.map_or(String::new(), |share| {
            let percent = share * 100.0;
            both(
                &format!("{percent:.0} % below the others"),
                &format!("比其他 GPU 低 {percent:.0} %"),
            )
        });
        _ = writeln!(
            page,
            "<tr><td><details><summary><code>{}</code></summary><p>{}</p><p>{}</p></details></td>\
             <td class=\"number\">{} {}<small> ±{:.1} %</small></td>\
             <td class=\"bar\"><div><b class=\"{class}\" style=\"width:{:.1}%\"></b>{}</div></td><td class=\"{class}\">{verdict} {siblings}</td></tr>",
            escaped(&named(one)),
            both(row.says, row.says_zh),
            escaped(&evidence(one)),
            number(one.figure.value),
            row.unit,
            one.figure.spread * 100.0,
            share(one.figure.value),
            mark.unwrap_or_default(),
        );
    }

    fn verdict_zh(&self) -> String {
        let low = self.figures.iter().filter(|one| is_low(one)).map(|one| self.named(one));
        let low: Vec<String> = low.collect();
        let compared = self.figures.iter().filter(|one| one.verdict.is_known()).count();
        let missing: Vec<&str> = self.unavailable.iter().map(|one| one.figure.as_str()).collect();
        let missing = match missing.as_slice() {
            [] => String::new(),
            _ => format!("；未测量：{}", once(missing).join("、")),
        };
        let said = match (self.wrong.len(), low.is_empty(), self.figures.len()) {
            (0, true, 0) if self.interrupted => "什么都没有测量".to_owned(),
            (0, true, 0) => return "什么都没能测量".to_owned(),
            (0, true, all) if compared == 0 && self.figures.iter().any(is_open) => {
                format!("测量了 {all} 项，无法判断是否偏低：原因见各项")
            }
            (0, true, all) if compared == 0 => format!("测量了 {all} 项，没有已知数据可比"),
            (0, true, all) => {
                format!("测量了 {all} 项；其中 {compared} 项有已知数据可比，没有一项偏低")
            }
            (0, false, _) => format!("偏低：{}", low.join("、")),
            (wrong, ..) => {
                let gpus: Vec<String> =
                    self.wrong_gpus().iter().map(|gpu| format!("GPU {gpu}")).collect();
                let gpus =
                    if gpus.is_empty() { "这台机器".to_owned() } else { gpus.join("、") };
                format!("{wrong} 个结果是错的：不要用 {gpus} 计算")
            }
        };
        let open = match self.open().as_slice() {
            open if open.is_empty() || compared == 0 => String::new(),
            open => format!("；无法判断：{}", open.join("、")),
        };
        let part = if self.interrupted { "已中断，不完整：" } else { "" };
        format!("{part}{said}{open}{missing}")
    }
}

/// An earlier run beside this one.
fn beside(page: &mut String, comparison: &Comparison) {
    let since = &comparison.since;
    let title = both(&format!("Since {since}"), &format!("与 {since} 相比"));
    _ = writeln!(page, "<h2>{title}</h2><ul>");
    for one in &comparison.differences {
        _ = writeln!(page, "<li>{}</li>", both(&one.en, &one.zh));
    }
    page.push_str("</ul>\n<table class=\"since\">\n");
    for one in &comparison.figures {
        let words = one.verdict.words();
        let class = if one.verdict == Changed::Worse { "low" } else { "" };
        _ = writeln!(
            page,
            "<tr><td><code>{}</code></td><td class=\"number\">{} → {} {}</td><td class=\"number\">{}</td><td class=\"{class}\">{}</td></tr>",
            escaped(one.named()),
            number(one.before),
            number(one.now),
            one.unit,
            one.percent().unwrap_or_default(),
            both(&words.en, &words.zh),
        );
    }
    page.push_str("</table>\n");
}

/// How it was measured, and what NVML saw.
fn evidence(one: &Judged) -> String {
    let mut text = one.figure.method.clone();
    if let Some((worst, allowed)) = one.figure.error {
        _ = write!(text, "; error at most {worst:.1e}, {allowed:.0e} allowed");
    }
    if let Some(seen) = &one.figure.evidence {
        if let Some((least, median, most)) = seen.sm_mhz {
            _ = write!(text, "; {least:.0}, {median:.0}, {most:.0} MHz (least, median, most)");
        }
        if let Some((median, most)) = seen.power_w {
            _ = write!(text, "; {median:.0} W, at most {most:.0}");
        }
        if let Some((generation, lanes)) = seen.pcie {
            _ = write!(text, "; PCIe {generation} x{lanes}");
        }
        if let Some(most) = seen.temperature_c {
            _ = write!(text, "; at most {most:.0} °C");
        }
    }
    text
}

/// A text in both languages; the page shows one of them.
fn both(en: &str, zh: &str) -> String {
    format!("<span lang=\"en\">{}</span><span lang=\"zh\">{}</span>", escaped(en), escaped(zh))
}

/// Text as HTML has it. Much of it came out of a container.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char if char.is_control() => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

const HEAD: &str = r##"<!doctype html>
<html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>sconce bench</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
#en:checked ~ main [lang=zh], #zh:checked ~ main [lang=en] { display: none }
input { position: absolute; opacity: 0 }
label { float: right; margin-left: 1rem; cursor: pointer; color: #1668b8 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.verdict { padding: .5rem 1rem; border-left: 4px solid #3a8a3a; background: #f1f8f1 }
.verdict.open { border-color: #777; background: #f5f5f5 } .verdict.low { border-color: #c4501b; background: #fdf3ee } .verdict.wrong { border-color: #b00020; background: #fdeef0 }
table { width: 100%; border-collapse: collapse; table-layout: fixed }
td:nth-child(1) { width: 27% } td:nth-child(2) { width: 20% } td:nth-child(3) { width: 28% }
td { padding: .2rem .5rem; vertical-align: top; border-top: 1px solid #eee }
td.low { color: #c4501b } td.number { white-space: nowrap; text-align: right } small { color: #777 }
td.bar div { position: relative; height: 1rem; margin-top: .25rem; background: #f0f2f4 }
td.bar b { position: absolute; height: 100%; background: #1668b8 } td.bar b.low { background: #c4501b }
td.bar i { position: absolute; top: -3px; bottom: -3px; width: 2px; background: #222 }
summary { cursor: pointer } details p { margin: .2rem 0; max-width: 22rem; color: #555; font-size: .85rem }
svg { width: 100%; max-width: 44rem } svg text { font-size: 11px } .grid { stroke: #ddd } .curve { fill: none; stroke-width: 2 }
.axes { color: #777; font-size: .85rem; margin: 0 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #16181b } .verdict, .verdict.open, .verdict.low, .verdict.wrong { background: #22262a }
td { border-color: #2b2f33 } td.bar div { background: #2b2f33 } td.bar i { background: #ddd } details p, small, .axes { color: #999 } svg text { fill: #bbb } .grid { stroke: #333 } }
</style>
<body>
<input type="radio" name="language" id="en" checked><input type="radio" name="language" id="zh">
<label for="zh">中文</label><label for="en">English</label>
<main>
"##;

const TAIL: &str = "</main>\n</body>\n</html>\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::GROUPS;

    #[test]
    fn every_group_has_a_heading() {
        for (group, name) in GROUPS {
            assert!(HEADINGS.iter().any(|(known, ..)| known == group), "{name}");
        }
    }
}
