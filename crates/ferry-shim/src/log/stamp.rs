//! Times as log records give them.

/// UTC time as Go's `time.RFC3339Nano` prints it: trailing zeros of the fraction are dropped, and the
/// point with them.
pub fn rfc3339_nano(nanos: i64) -> String {
    let seconds = nanos.div_euclid(1_000_000_000);
    let fraction = nanos.rem_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    if fraction != 0 {
        let digits = format!(".{fraction:09}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Proleptic Gregorian date of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that the leap day is the last of its year.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Three-letter names of months.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A time of day with its date, in some zone.
struct Civil {
    date: (i64, i64, i64),
    second: i64,
    nanos: i64,
}

impl Civil {
    fn new(nanos: i64, utc_offset: i32) -> Self {
        let seconds = nanos.div_euclid(1_000_000_000) + i64::from(utc_offset);
        Self {
            date: civil(seconds.div_euclid(86_400)),
            second: seconds.rem_euclid(86_400),
            nanos: nanos.rem_euclid(1_000_000_000),
        }
    }

    fn clock(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.second / 3600, self.second / 60 % 60, self.second % 60)
    }
}

/// RFC 3164's `Jan  2 15:04:05`.
pub fn bsd(nanos: i64, utc_offset: i32) -> String {
    let t = Civil::new(nanos, utc_offset);
    let month = usize::try_from(t.date.1 - 1).ok().and_then(|m| MONTHS.get(m)).unwrap_or(&"Jan");
    format!("{month} {:2} {}", t.date.2, t.clock())
}

/// RFC 3339 in a zone, with microseconds or whole seconds.
pub fn rfc3339(nanos: i64, utc_offset: i32, micros: bool) -> String {
    let t = Civil::new(nanos, utc_offset);
    let fraction = if micros { format!(".{:06}", t.nanos / 1000) } else { String::new() };
    let zone = match utc_offset {
        0 => "Z".to_owned(),
        offset => {
            let minutes = offset.unsigned_abs() / 60;
            format!("{}{:02}:{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
        }
    };
    format!("{:04}-{:02}-{:02}T{}{fraction}{zone}", t.date.0, t.date.1, t.date.2, t.clock())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        assert_eq!(rfc3339_nano(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_nano(1_700_000_000_120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339_nano(951_827_696_000_000_001), "2000-02-29T12:34:56.000000001Z");
        assert_eq!(rfc3339_nano(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(rfc3339_nano(4_107_542_400_000_000_000), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn syslog_times_have_a_zone() {
        let t = 1_701_468_001_120_000_000;
        assert_eq!(bsd(t, 0), "Dec  1 22:00:01");
        assert_eq!(bsd(t, 7200), "Dec  2 00:00:01");
        assert_eq!(rfc3339(t, 0, false), "2023-12-01T22:00:01Z");
        assert_eq!(rfc3339(t, -12_600, true), "2023-12-01T18:30:01.120000-03:30");
    }
}
