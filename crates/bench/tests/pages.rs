//! The pages of a run: whole, self-contained, in two languages, with the values of its document.

mod recording;

use recording::{change, recorded, report};
use sconce_bench::Baseline;
use sconce_bench::answer::{Line, Reader};
use sconce_bench::report::{Report, Subject};
use serde_json::{Value, json};

/// A run with all that a page may have: something wrong, something not measured, a remark, an earlier run.
fn full() -> Report {
    let mut lines = recorded("h100-bursts.jsonl");
    lines.extend(recorded("h100-torch.jsonl"));
    change(&mut lines, "bf16", |figure| figure.value = 500.0);
    let one = |figure: &str, reason: &str| sconce_bench::answer::Unavailable {
        figure: figure.to_owned(),
        gpus: vec![0],
        reason: reason.to_owned(),
    };
    lines.push(Line::Wrong(one("fp16", "3 of 4 numbers")));
    lines.push(Line::Unavailable(one("peer", "there is one GPU")));
    lines.push(Line::Torch(sconce_bench::answer::Torch { version: Some("2.15.0+cu130".into()) }));
    let mut earlier = serde_json::to_value(report(recorded("h100-without-pauses.jsonl"))).unwrap();
    earlier["torch"] = "2.11.0+cu130".into();
    earlier["gpus"][0]["driver"] = "570.1".into();
    let subject = Subject {
        target: "torch".to_owned(),
        image: Some("sha256:00".to_owned()),
        effort: "usual",
        ..Subject::default()
    };
    let mut report = Report::new(subject, lines, vec!["it answered for `x`".to_owned()]);
    let earlier = Baseline::read(earlier.to_string().as_bytes()).unwrap();
    report.compare("before.json", &earlier);
    report
}

/// What a program inside says is printed on terminals and in pages.
#[test]
fn words_from_inside_stay_words() {
    let hostile = "<script>alert(1)</script>\u{1b}[2J";
    let line = json!({ "unavailable": { "figure": "bf16", "gpus": [], "reason": hostile } });
    let lines: Vec<Line> = Reader::default()
        .read(format!("{line}\n").as_bytes())
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("an answer");
    let report = Report::new(
        Subject { target: "\"><img src=x>".to_owned(), effort: "usual", ..Subject::default() },
        lines,
        Vec::new(),
    );
    assert!(!report.unavailable[0].reason.contains('\u{1b}'));
    let page = report.markdown();
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(page.contains("- bf16: &lt;script&gt;alert(1)"), "{page}");
    let page = report.html();
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
}

/// Every figure is on the page, in both languages, and every element that is opened is closed.
#[test]
fn the_page_of_a_run_is_whole() {
    let mut lines = recorded("h100-bursts.jsonl");
    lines.extend(recorded("h100-torch.jsonl"));
    let report = report(lines);
    let page = report.html();
    for one in &report.figures {
        assert!(page.contains(&format!("<code>{}", one.figure.figure)), "{}", one.figure.figure);
    }
    assert!(page.contains("<span lang=\"zh\">矩阵乘</span>") && page.contains("符合预期"));
    assert!(
        page.matches("<svg").count() == 1 && page.contains("workers"),
        "the DataLoader's curve"
    );
    for element in ["table", "tr", "td", "ul", "li", "p", "span", "svg", "div", "details", "main"] {
        let (open, close) = (format!("<{element}"), format!("</{element}>"));
        let begins = |rest: &str| rest.starts_with([' ', '>']);
        let opened = page.split(&open).skip(1).filter(|rest| begins(rest)).count();
        assert_eq!(opened, page.matches(&close).count(), "{element}");
    }
}

/// The page with one of its languages.
fn only(page: &str, other: &str) -> String {
    let mut out = String::new();
    let mut rest = page;
    let begin = format!("<span lang=\"{other}\">");
    while let Some((before, after)) = rest.split_once(&begin) {
        out.push_str(before);
        rest = after.split_once("</span>").unwrap().1;
    }
    out + rest
}

/// The numbers in a text, in their order, without those of styles and drawings.
fn numbers(text: &str) -> Vec<String> {
    let text = text.split_once("<main>").map_or(text, |(_, body)| body);
    let mut words = String::new();
    let mut within = false;
    for c in text.chars() {
        match c {
            '<' => within = true,
            '>' => {
                within = false;
                words.push(' ');
            }
            c if !within => words.push(c),
            _ => {}
        }
    }
    let words = words.replace("&#39;", "'");
    let is_part = |c: char| !(c.is_ascii_digit() || c == '.');
    let found = words.split(is_part).map(|word| word.trim_matches('.').to_owned());
    found.filter(|word| !word.is_empty()).collect()
}

/// Nobody needs a network for it, and nothing in it reaches for one.
#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let page = full().html();
    for reaching in [
        "<script",
        "<link",
        "<img",
        "<iframe",
        "<object",
        "<embed",
        "src=",
        "href=",
        "url(",
        "@import",
        "javascript:",
        "<form",
        "<base",
        "http-equiv=\"refresh",
    ] {
        assert!(!page.contains(reaching), "{reaching}");
    }
    assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'"));
    // Addresses are words: where a figure stands, in what is shown above its mark.
    let outside = page.split("title=\"").skip(1).map(|rest| rest.split_once('"').unwrap().1);
    let without: String =
        std::iter::once(page.split("title=\"").next().unwrap()).chain(outside).collect();
    assert!(!without.contains("://"), "{without}");
}

/// Each language has all of it: as many pieces, and the same numbers in the same order.
#[test]
fn both_languages_say_the_same() {
    let page = full().html();
    let spans = |language: &str| page.matches(&format!("<span lang=\"{language}\">")).count();
    assert!(spans("en") > 50 && spans("en") == spans("zh"), "{} {}", spans("en"), spans("zh"));
    let (en, zh) = (only(&page, "zh"), only(&page, "en"));
    let sorted = |text: &str| {
        let mut all = numbers(text);
        all.sort();
        all
    };
    // Within a sentence another language has another order.
    assert_eq!(sorted(&en), sorted(&zh));
    let chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    let body = |text: &str| text.split_once("<main>").unwrap().1.to_owned();
    assert!(!chinese(&body(&en)) && chinese(&body(&zh)));
    for part in page.split("<span lang=\"zh\">").skip(1) {
        assert!(!part.split_once("</span>").unwrap().0.trim().is_empty(), "{part}");
    }
}

/// The values of page, Markdown and document are the same, those of the comparison as well.
#[test]
fn pages_have_the_values_of_the_document() {
    let report = full();
    let document = serde_json::to_value(&report).unwrap();
    let (page, markdown) = (report.html(), report.markdown());
    let shown = |value: f64| match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    };
    let list = |key: &str| document[key].as_array().unwrap().clone();
    for one in list("figures") {
        let (name, unit) = (one["figure"].as_str().unwrap(), one["unit"].as_str().unwrap());
        let value = shown(one["value"].as_f64().unwrap());
        let row = page.lines().find(|line| {
            line.contains(&format!("<code>{name} gpu 0</code>"))
                || line.contains(&format!("<code>{name}</code>"))
        });
        // The comparison stands before the figures.
        let all: Vec<&str> =
            page.lines().filter(|line| line.contains(&format!("<code>{name}"))).collect();
        assert!(row.is_some(), "{name}");
        let cell = format!("<td class=\"number\">{value} {unit}<small>");
        assert!(all.iter().any(|line| line.contains(&cell)), "{name}: {cell}: {all:?}");
        assert!(markdown.contains(&format!("| {value} {unit} |")), "{name}");
        let verdict = match one["verdict"].as_str().unwrap() {
            "as-expected" => "as expected",
            "low" => "low",
            "above-floor" => "above DCGM's floor",
            _ => "can't tell: ",
        };
        let verdict = verdict.replace('\'', "&#39;");
        assert!(all.iter().any(|line| line.contains(&verdict)), "{name}: {verdict}");
    }
    for key in ["unavailable", "wrong"] {
        for one in list(key) {
            let reason = one["reason"].as_str().unwrap();
            assert!(page.contains(reason) && markdown.contains(reason), "{reason}");
        }
    }
    let comparison = &document["comparison"];
    assert_eq!(comparison["since"], "before.json");
    let differences = comparison["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 2, "{comparison:#}");
    for one in differences {
        let (en, zh) = (one["en"].as_str().unwrap(), one["zh"].as_str().unwrap());
        assert!(page.contains(en) && page.contains(zh) && markdown.contains(en), "{one}");
    }
    let figures = comparison["figures"].as_array().unwrap();
    assert!(figures.len() > 5, "{comparison:#}");
    for one in figures {
        let (before, now) = (one["before"].as_f64().unwrap(), one["now"].as_f64().unwrap());
        let (before, now) = (shown(before), shown(now));
        let unit = one["unit"].as_str().unwrap();
        assert!(page.contains(&format!("{before} → {now} {unit}</td>")), "{one}");
        assert!(markdown.contains(&format!("| {before} {unit} | {now} {unit} |")), "{one}");
        let words = match one["verdict"].as_str().unwrap() {
            "same" => "the same",
            words => words,
        };
        assert!(page.contains(&format!(">{words}</span>")), "{one}");
    }
    let text = |key: &str| document[key].as_str().unwrap().to_owned();
    for key in ["target", "image", "torch"] {
        assert!(
            page.contains(&text(key)) && markdown.contains(&text(key).replace('_', "\\_")),
            "{key}"
        );
    }
    let remarks: Vec<Value> = list("remarks");
    assert!(page.contains("it answered for `x`") && remarks.len() == 1);
}
