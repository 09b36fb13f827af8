//! What is printed when all is measured.

use sconce_bench::report::Report;

use super::Args;
use crate::error::Failure;

/// What there is to say at the end.
pub(super) fn print(args: &Args, reports: &[Report]) -> Result<(), Failure> {
    if args.json {
        let text = match reports {
            [report] => serde_json::to_string_pretty(report),
            several => serde_json::to_string_pretty(several),
        };
        println!("{}", text.map_err(Failure::unwritable)?);
    }
    for report in reports {
        match (args.markdown, args.html) {
            (true, _) => print!("{}", report.markdown()),
            (_, true) => print!("{}", report.html()),
            _ if args.json => {}
            _ => say(report, reports.len() > 1),
        }
    }
    // The document and the pages have it as well.
    for report in reports {
        let Some(comparison) = &report.comparison else { continue };
        match reports.len() {
            1 => eprintln!("since {}:", comparison.since),
            _ => eprintln!("since {}, in {}:", comparison.since, report.target),
        }
        comparison.differences.iter().for_each(|one| eprintln!("  {}", one.en));
        comparison.figures.iter().for_each(|one| eprintln!("  {one}"));
    }
    Ok(())
}

/// What the lines that came could not say yet.
fn say(report: &Report, several: bool) {
    for one in &report.figures {
        if one.below_siblings.is_some() {
            println!("{one}");
        }
    }
    report.remarks.iter().for_each(|remark| eprintln!("note: {remark}"));
    for one in &report.advice {
        println!("advice: {}", one.en);
    }
    match several {
        true => println!("{}: {}", report.target, report.verdict()),
        false => println!("{}", report.verdict()),
    }
}
