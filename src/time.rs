//! Instants and spans in whole milliseconds, and how they are written.
//!
//! The file, the predicate and the configuration all count in milliseconds since the Unix epoch, so two small
//! integers serve here better than a calendar library's types. The calendar itself is jiff's; the layout is
//! checked here, because jiff reads more than RFC 3339 and less than the year 9999.

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use thiserror::Error;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// 1970-01-01, the day that instants count from.
const EPOCH: Date = Date::constant(1970, 1, 1);

/// An instant: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "an RFC 3339 instant such as \"2026-11-23T12:00:00.001Z\" or \"2026-11-23T20:00:00+08:00\""
)]
pub struct NotRfc3339;

impl Timestamp {
    /// The last instant that RFC 3339 can write.
    pub const LAST: Self = Self(253_402_300_799_999);

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The wall clock, read anew at each call, so that a step of the clock is in the next answer.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The instant `span` later, if it can be held.
    pub const fn checked_add(self, span: Span) -> Option<Self> {
        match self.0.checked_add(span.0) {
            Some(millis) => Some(Self(millis)),
            None => None,
        }
    }

    /// The span from `earlier` to this instant, or the longest that can be held.
    pub const fn saturating_since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The instant `span` later, or the last one that can be held.
    #[must_use]
    pub const fn saturating_add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The instant `span` earlier, or the first one that can be held.
    #[must_use]
    pub const fn saturating_sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// Reads RFC 3339 section 5.6 `date-time` and nothing else: `T` and `Z` in either case, an offset of up to
    /// 23:59, any number of fraction digits. Digits under a millisecond are cut. A leap second (`:60`, which
    /// only the last minute of a UTC day can have) is the second after it, as in POSIX time.
    pub fn parse_rfc3339(text: &str) -> Result<Self, NotRfc3339> {
        Self::parse(text.as_bytes()).ok_or(NotRfc3339)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (head, tail) = text.split_at_checked(19)?;
        for (at, mark) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
            if head[at].to_ascii_uppercase() != mark {
                return None;
            }
        }
        let date = Date::new(
            i16::try_from(digits(&head[0..4])?).ok()?,
            i8::try_from(digits(&head[5..7])?).ok()?,
            i8::try_from(digits(&head[8..10])?).ok()?,
        )
        .ok()?;
        let hour = digits(&head[11..13]).filter(|&hour| hour <= 23)?;
        let minute = digits(&head[14..16]).filter(|&minute| minute <= 59)?;
        let second = digits(&head[17..19]).filter(|&second| second <= 60)?;

        let (fraction, zone) = match tail.strip_prefix(b".") {
            Some(rest) => {
                let end = rest.iter().position(|b| !b.is_ascii_digit())?;
                (
                    Some(&rest[..end]).filter(|digits| !digits.is_empty())?,
                    &rest[end..],
                )
            }
            None => (&b""[..], tail),
        };
        let millis = fraction
            .iter()
            .chain(b"000")
            .take(3)
            .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        let offset = match zone {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let hours = digits(&[*h1, *h2]).filter(|&hours| hours <= 23)?;
                let minutes = digits(&[*m1, *m2]).filter(|&minutes| minutes <= 59)?;
                (hours * HOUR + minutes * MINUTE) * if *sign == b'-' { -1 } else { 1 }
            }
            _ => return None,
        };

        let days = i64::from((date - EPOCH).get_days());
        let instant =
            days * DAY + hour * HOUR + minute * MINUTE + second * SECOND + millis - offset;
        if second == 60 && instant.rem_euclid(DAY) >= SECOND {
            return None;
        }
        Some(Self(instant)).filter(|&instant| instant <= Self::LAST)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Self(millis(since)),
            Err(before) => Self(-millis(before.duration())),
        }
    }
}

/// The value of a run of ASCII digits.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + i64::from(byte - b'0'))
    })
}

/// RFC 3339 in UTC with three digits of fraction; an instant beyond the year 9999, which a foreign writer may
/// well have meant as "never", as its number of milliseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = i32::try_from(self.0.div_euclid(DAY)).ok();
        let date = day.and_then(|day| {
            EPOCH
                .checked_add(jiff::Span::new().try_days(day).ok()?)
                .ok()
        });
        match date {
            Some(date) if (0..=9999).contains(&date.year()) => {
                let rest = self.0.rem_euclid(DAY);
                let (hour, minute) = (rest / HOUR, rest / MINUTE % 60);
                let (second, millis) = (rest / SECOND % 60, rest % SECOND);
                write!(f, "{date}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
            }
            _ => write!(f, "{} ms since 1970", self.0),
        }
    }
}

/// A length of time in milliseconds, negative where it points the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(i64);

/// The text is not a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a whole number with a unit (ms, s, m, h or d) such as \"90m\", \"30d\" or \"1d12h\"")]
pub struct NotASpan;

impl Span {
    pub const ZERO: Self = Self(0);

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn from_minutes(minutes: i64) -> Self {
        Self(minutes * MINUTE)
    }

    pub const fn from_hours(hours: i64) -> Self {
        Self(hours * HOUR)
    }

    pub const fn from_days(days: i64) -> Self {
        Self(days * DAY)
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The span as a person would say it: in hours from a day on, in minutes from an hour on, in seconds from a
    /// second on.
    #[must_use]
    pub const fn rounded_down(self) -> Self {
        let length = self.0.saturating_abs();
        let unit = if length < SECOND {
            1
        } else if length < HOUR {
            SECOND
        } else if length < DAY {
            MINUTE
        } else {
            HOUR
        };
        Self(self.0 / unit * unit)
    }

    /// Reads `"90m"`, `"-1s"`, `"1d12h"`: one sign at the most, then numbers with the units `ms`, `s`, `m`, `h`
    /// and `d` (of 24 hours), which add up.
    pub fn parse(text: &str) -> Result<Self, NotASpan> {
        let (sign, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let mut sum = 0i64;
        loop {
            let number_end = rest.find(|c: char| !c.is_ascii_digit()).ok_or(NotASpan)?;
            let (number, tail) = rest.split_at(number_end);
            let unit_end = tail
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let unit = match unit {
                "ms" => 1,
                "s" => SECOND,
                "m" => MINUTE,
                "h" => HOUR,
                "d" => DAY,
                _ => return Err(NotASpan),
            };
            let part = number
                .parse::<i64>()
                .ok()
                .and_then(|number| number.checked_mul(unit));
            sum = part
                .and_then(|part| sum.checked_add(part))
                .ok_or(NotASpan)?;
            if tail.is_empty() {
                return Ok(Self(sign * sum));
            }
            rest = tail;
        }
    }
}

/// In the largest units that hold it exactly: `1d12h`, `30m`, `0s`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut rest = self.0.unsigned_abs();
        for (unit, name) in [
            (DAY, "d"),
            (HOUR, "h"),
            (MINUTE, "m"),
            (SECOND, "s"),
            (1, "ms"),
        ] {
            let unit = unit.unsigned_abs();
            if rest >= unit {
                write!(f, "{}{name}", rest / unit)?;
                rest %= unit;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<i64> {
        Timestamp::parse_rfc3339(text)
            .ok()
            .map(Timestamp::as_millis)
    }

    #[test]
    fn rfc3339_is_read_strictly() {
        let noon = 1_795_435_200_000;
        for (text, wanted) in [
            ("2026-11-23T12:00:00Z", noon),
            ("2026-11-23t12:00:00z", noon),
            ("2026-11-23T12:00:00.001Z", noon + 1),
            ("2026-11-23T12:00:00.0019999999Z", noon + 1),
            ("2026-11-23T12:00:00.5Z", noon + 500),
            ("2026-11-23T20:00:00+08:00", noon),
            ("2026-11-23T07:00:00.001-05:00", noon + 1),
            ("2026-11-23T12:00:00-00:00", noon),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2017-01-01T07:59:60+08:00", 1_483_228_800_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
            ("9999-12-31T23:59:59.999Z", Timestamp::LAST.as_millis()),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
        ] {
            assert_eq!(millis(text), Some(wanted), "{text}");
        }
        for text in [
            "",
            "2026-11-23",
            "2026-11-23T12:00:00",
            "2026-11-23 12:00:00Z",
            "2026-11-23T12:00Z",
            "2026-11-23T12:00:00,5Z",
            "2026-11-23T12:00:00.Z",
            "2026-11-23T12:00:00.5",
            "2026-11-23T12:00:00+08",
            "2026-11-23T12:00:00+0800",
            "2026-11-23T12:00:00+24:00",
            "2026-11-23T12:00:00+08:60",
            "2026-11-23T12:00:0\u{661}Z",
            "2026-11-23T12:00:00Z ",
            " 2026-11-23T12:00:00Z",
            "2026-11-23T12:00:00Z[UTC]",
            "2026-11-23T24:00:00Z",
            "2026-11-23T12:60:00Z",
            "2026-11-23T12:00:60Z",
            "2026-11-23T12:00:61Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "+026-11-23T12:00:00Z",
            "12026-11-23T12:00:00Z",
            "9999-12-31T23:59:60Z",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn instants_are_written_as_they_are_read() {
        for text in [
            "2026-11-23T12:00:00.001Z",
            "1969-12-31T23:59:59.999Z",
            "9999-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00.000Z",
        ] {
            assert_eq!(
                Timestamp::parse_rfc3339(text)
                    .map(|t| t.to_string())
                    .as_deref(),
                Ok(text)
            );
        }
        assert_eq!(
            Timestamp::from_millis(i64::MAX).to_string(),
            "9223372036854775807 ms since 1970"
        );
        assert_eq!(
            Timestamp::from_millis(i64::MIN).to_string(),
            "-9223372036854775808 ms since 1970"
        );
    }

    #[test]
    fn spans_are_read_and_written() {
        for (text, wanted) in [
            ("0s", 0),
            ("1ms", 1),
            ("-1s", -1_000),
            ("90m", 5_400_000),
            ("1h", 3_600_000),
            ("30d", 2_592_000_000),
            ("1d12h", 129_600_000),
        ] {
            assert_eq!(Span::parse(text), Ok(Span(wanted)), "{text}");
        }
        for text in [
            "",
            "-",
            "1",
            "h",
            "1 h",
            "+1h",
            "--1h",
            "1w",
            "1.5h",
            "1h-",
            "1hm",
            "9223372036854775807d",
            "1H",
        ] {
            assert_eq!(Span::parse(text), Err(NotASpan), "{text}");
        }
        for (millis, wanted) in [
            (0, "0s"),
            (5_400_000, "1h30m"),
            (-1_500, "-1s500ms"),
            (129_600_000, "1d12h"),
        ] {
            assert_eq!(Span(millis).to_string(), wanted);
        }
        assert_eq!(Span(i64::MIN).to_string(), "-106751991167d7h12m55s808ms");
        for (millis, wanted) in [
            (999, "999ms"),
            (61_999, "1m1s"),
            (DAY - 1, "23h59m"),
            (-DAY - HOUR - 1, "-1d1h"),
        ] {
            assert_eq!(Span(millis).rounded_down().to_string(), wanted);
        }
    }
}
