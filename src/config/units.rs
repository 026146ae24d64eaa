//! Durations, sizes and shares as an operator writes them: `10s`, `64MiB`, `5%`.
//!
//! Each reader fails with its rule, such as "must be a duration such as 10s"; whoever knows where the value
//! stands adds the place and the value.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::Threshold;

const DURATION_RULE: &str = "must be a duration such as 10s";
const SIZE_RULE: &str = "must be a size such as 64MiB";
const SHARE_RULE: &str = "must be a share from 0% to 100%";
const BUDGET_RULE: &str = "must be a size such as 64MiB, or a share of memory_limit such as 10%";
const MEMORY_LIMIT_RULE: &str =
    "must be auto, a size such as 512MiB, or a share of the cgroup's limit such as 80%";
const THRESHOLD_RULE: &str = "must be learned, or a duration such as 300ms";
const ADDRESS_RULE: &str = "must be an IP address and a port such as 127.0.0.1:4317";

/// A regular expression that takes every text which `rule` allows, and little beyond. `None` when `rule` is none of
/// this file's.
pub(super) fn pattern(rule: &str) -> Option<String> {
    const DURATION: &str = "0|(?:[0-9]+(?:[.][0-9]+)? *(?:n(?:anos|sec|s)|u(?:sec|s)|m(?:illis|sec|s)|s(?:ec(?:ond)?s?)?|\
                            m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?|w(?:(?:ee)?ks?)?|M|months?|y(?:(?:ea)?rs?)?) *)+";
    const SIZE: &str = "[0-9]+(?:[.][0-9]+)? *(?:[kKmMgGtTpPeE][iI]?[bB]?|[bB])";
    const SHARE: &str = "0*(?:[0-9]{1,2}(?:[.][0-9]+)?|100(?:[.]0+)?) *%";
    const ADDRESS: &str = "[0-9]{1,3}(?:[.][0-9]{1,3}){3}:[0-9]{1,5}|[\\[][0-9a-fA-F:.]+\\]:[0-9]{1,5}";
    Some(match rule {
        DURATION_RULE => DURATION.to_owned(),
        SIZE_RULE => SIZE.to_owned(),
        SHARE_RULE => SHARE.to_owned(),
        BUDGET_RULE => format!("{SIZE}|{SHARE}"),
        MEMORY_LIMIT_RULE => format!("auto|{SIZE}|{SHARE}"),
        THRESHOLD_RULE => format!("learned|{DURATION}"),
        ADDRESS_RULE => ADDRESS.to_owned(),
        _ => return None,
    })
}

/// A limit in bytes, or a share of `memory_limit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Exactly so many bytes.
    Bytes(u64),
    /// 0..1 of `memory_limit`.
    Share(f64),
}

impl Budget {
    /// Bytes, given the memory limit in bytes.
    pub fn of(self, memory_limit: u64) -> u64 {
        match self {
            Budget::Bytes(bytes) => bytes,
            Budget::Share(share) => share_of(memory_limit, share),
        }
    }
}

/// `share`, 0..1, of `bytes`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share lies in 0..1, so the product fits and is not negative"
)]
pub(super) fn share_of(bytes: u64, share: f64) -> u64 {
    (bytes as f64 * share) as u64
}

/// `memory_limit`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum MemoryLimit {
    /// 80 % of the cgroup's limit, 1 GiB without one.
    #[default]
    Auto,
    /// Bytes, or a share of the cgroup's limit.
    Given(Budget),
}

/// Reads `10s`, `1m30s`, `200ms`; a number without a unit is refused, save for 0.
fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok()
}

/// Reads `64MiB`, `3MB`, `512B`; a number without a unit is refused.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.ends_with(|last: char| last.is_ascii_digit()) {
        return None;
    }
    text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64())
}

/// Reads `5%` as 0.05.
fn parse_share(text: &str) -> Option<f64> {
    let percent: f64 = text.trim().strip_suffix('%')?.trim_end().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn parse_budget(text: &str) -> Option<Budget> {
    parse_share(text).map(Budget::Share).or_else(|| parse_size(text).map(Budget::Bytes))
}

fn parse_memory_limit(text: &str) -> Option<MemoryLimit> {
    if text.trim() == "auto" {
        return Some(MemoryLimit::Auto);
    }
    parse_budget(text).map(MemoryLimit::Given)
}

fn parse_threshold(text: &str) -> Option<Threshold> {
    if text.trim() == "learned" {
        return Some(Threshold::Learned);
    }
    parse_duration(text).map(Threshold::Fixed)
}

/// Parses the text as it was typed: `30` and `true` are text here too.
fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    rule: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer).ok();
    text.and_then(|text| parse(&text)).ok_or_else(|| de::Error::custom(rule))
}

/// `#[serde(with = "units::duration")]`.
pub mod duration {
    use super::{DURATION_RULE, Deserializer, Duration, parse_duration, read};

    /// A duration with its unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        read(deserializer, DURATION_RULE, parse_duration)
    }
}

/// `#[serde(with = "units::optional_duration")]`, for a key that is left out or holds a duration.
pub mod optional_duration {
    use super::{Deserializer, Duration, duration};

    /// A duration with its unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(deserializer).map(Some)
    }
}

/// `#[serde(with = "units::size")]`.
pub mod size {
    use super::{Deserializer, SIZE_RULE, parse_size, read};

    /// Bytes with their unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        read(deserializer, SIZE_RULE, parse_size)
    }
}

/// `#[serde(with = "units::share")]`.
pub mod share {
    use super::{Deserializer, SHARE_RULE, parse_share, read};

    /// A share with its percent sign, as 0..1.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        read(deserializer, SHARE_RULE, parse_share)
    }
}

/// `#[serde(with = "units::address")]`.
pub mod address {
    use super::{ADDRESS_RULE, Deserializer, SocketAddr, read};

    /// An IP address and a port.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        read(deserializer, ADDRESS_RULE, |text| text.trim().parse().ok())
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, BUDGET_RULE, parse_budget)
    }
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, MEMORY_LIMIT_RULE, parse_memory_limit)
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, THRESHOLD_RULE, parse_threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit() {
        assert_eq!(parse_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        for wrong in ["", "30", "-1s", "10 parsecs", "99999999999999999999y"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_size_needs_a_unit() {
        for (text, bytes) in [("64MiB", 64 << 20), ("3MB", 3_000_000), ("512 B", 512), ("1.5KiB", 1536)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for wrong in ["", "64", "MiB", "-1MiB", "5%"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_share_lies_between_0_and_100_percent() {
        for (text, share) in [("5%", 0.05), ("0%", 0.0), ("99.5 %", 0.995), ("100%", 1.0)] {
            assert_eq!(parse_share(text), Some(share), "{text}");
        }
        for wrong in ["", "5", "0.05", "101%", "-1%", "NaN%", "%"] {
            assert_eq!(parse_share(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_budget_is_a_size_or_a_share() {
        assert_eq!(parse_budget("10%").map(|budget| budget.of(2000)), Some(200));
        assert_eq!(parse_budget("10KiB").map(|budget| budget.of(2000)), Some(10_240));
        assert_eq!(parse_memory_limit("auto"), Some(MemoryLimit::Auto));
        assert_eq!(parse_memory_limit("10"), None);
    }

    #[test]
    fn every_rule_has_a_pattern() {
        for rule in [
            DURATION_RULE,
            SIZE_RULE,
            SHARE_RULE,
            BUDGET_RULE,
            MEMORY_LIMIT_RULE,
            THRESHOLD_RULE,
            ADDRESS_RULE,
        ] {
            assert!(pattern(rule).is_some(), "{rule}");
        }
        assert_eq!(pattern("must be another"), None);
    }
}
