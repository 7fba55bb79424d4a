//! Figures: samples with their median and percentiles, and the memory of processes.

use anyhow::{Context, Result};

/// Measurements of one thing, in one unit.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// A thing measured once.
    pub fn one(value: f64) -> Self {
        Self(vec![value])
    }

    /// Adds a measurement.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The same measurements in another unit.
    #[must_use]
    pub fn map(&self, convert: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().copied().map(convert).collect())
    }

    /// The middle one; 0 when nothing was measured.
    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The smallest value that `percent` of all do not exceed (nearest rank).
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(0.0)
    }

    /// For the table: `11.3 ms (14.0)`.
    pub fn cell(&self, unit: &str) -> String {
        match self.0.len() {
            0 => "–".to_owned(),
            1 => format!("{:.2} {unit}", self.median()),
            // Of speeds the slowest of twenty is the 5th percentile.
            _ if unit.ends_with("/s") => {
                format!("{:.1} {unit} ({:.1})", self.median(), self.percentile(5))
            }
            _ => format!("{:.1} {unit} ({:.1})", self.median(), self.percentile(95)),
        }
    }
}

/// Proportional set size of processes together, in MB (10⁶ bytes), from `smaps_rollup` (proc(5)).
pub fn pss_mb(pids: &[u32]) -> Result<f64> {
    let mut total = 0.0;
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<f64>().ok())
            .with_context(|| format!("{path} has no Pss"))?;
        total += kib * 1024.0 / 1e6;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut samples = Samples::default();
        for value in (1..=20).rev() {
            samples.push(f64::from(value));
        }
        assert_eq!(samples.median(), 10.0);
        assert_eq!(samples.percentile(95), 19.0);
        assert_eq!(samples.percentile(100), 20.0);
        assert_eq!(Samples::default().median(), 0.0);
    }

    #[test]
    fn this_process_has_memory() {
        let mb = pss_mb(&[std::process::id()]).unwrap();
        assert!(mb > 0.1 && mb < 500.0, "{mb}");
    }
}
