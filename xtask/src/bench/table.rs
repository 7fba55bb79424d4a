//! What was measured, as a table.

use super::stats::Samples;
use crate::{host, ui};

/// What is measured, for each contender in the order of [`super::Bench::contenders`].
pub struct Row {
    pub what: &'static str,
    pub aim: &'static str,
    pub unit: &'static str,
    pub samples: Vec<Samples>,
    pub floor: Option<Samples>,
}

impl Row {
    /// A row without an aim and without a floor.
    pub fn plain(what: &'static str, unit: &'static str, samples: Vec<Samples>) -> Self {
        Self { what, aim: "", unit, samples, floor: None }
    }

    /// Of speeds more is better, of everything else less.
    fn more_is_better(&self) -> bool {
        self.unit.ends_with("/s")
    }

    /// How many times better ferry is than Docker.
    fn ratio(&self) -> Option<f64> {
        let (ferry, docker) = (self.samples.first()?.median(), self.samples.get(1)?.median());
        if ferry <= 0.0 || docker <= 0.0 {
            return None;
        }
        Some(if self.more_is_better() { ferry / docker } else { docker / ferry })
    }
}

/// The table; medians, with the 95th percentile in brackets.
pub fn table(rows: &[Row], docker: bool) -> String {
    let mut lines = vec![
        ["what", "ferry", "Docker", "ratio", "bare floor", "docker CLI on ferry", "aim"].map(str::to_owned),
    ];
    for row in rows {
        let cell = |index: usize| row.samples.get(index).map_or_else(|| "–".to_owned(), |s| s.cell(row.unit));
        let sign = if row.more_is_better() { "≥" } else { "≤" };
        lines.push([
            row.what.to_owned(),
            cell(0),
            if docker { cell(1) } else { "–".to_owned() },
            row.ratio().map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.1}×")),
            row.floor.as_ref().map_or_else(|| "–".to_owned(), |floor| floor.cell(row.unit)),
            cell(2),
            if row.aim.is_empty() { "–".to_owned() } else { format!("{sign} {} {}", row.aim, row.unit) },
        ]);
    }
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if number == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&format!("| {} |\n", rules.join(" | ")));
        }
    }
    text.push_str("\nMedian (95th percentile). Ratio: how many times better ferry is.\n");
    let slower: Vec<&str> =
        rows.iter().filter(|row| row.ratio().is_some_and(|ratio| ratio < 1.0)).map(|row| row.what).collect();
    if !slower.is_empty() {
        text.push_str(&format!("Docker is better at: {}.\n", slower.join(", ")));
    }
    ui::note(format!("{} processors, kernel {}", host::cpus(), kernel()));
    text
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_how_many_times_slower_docker_is() {
        let mut ferry = Samples::default();
        let mut docker = Samples::default();
        for i in 0..10 {
            ferry.push(10.0 + f64::from(i));
            docker.push(100.0 + 10.0 * f64::from(i));
        }
        let row = Row { aim: "12", ..Row::plain("run", "ms", vec![ferry.clone(), docker.clone()]) };
        let text = table(&[row], true);
        assert!(text.contains("10.0×"), "{text}");
        assert!(text.contains("≤ 12 ms"), "{text}");
        assert!(!text.contains("Docker is better"), "{text}");
        // Of speeds more is better.
        let text = table(&[Row::plain("speed", "MB/s", vec![ferry, docker])], true);
        assert!(text.contains("0.1×") && text.contains("Docker is better at: speed."), "{text}");
    }
}
