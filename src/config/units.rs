//! Durations, sizes and shares as an operator writes them: `10s`, `64MiB`, `5%`.

use serde::{Deserialize, Deserializer, de};

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
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share lies in 0..1, so the product fits and is not negative"
    )]
    pub fn of(self, memory_limit: u64) -> u64 {
        match self {
            Budget::Bytes(bytes) => bytes,
            Budget::Share(share) => (memory_limit as f64 * share) as u64,
        }
    }
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

/// Reads `10s`, `1m30s`, `200ms`; a number without a unit is refused.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|_| format!("must be a duration such as 10s, got {text}"))
}

/// Reads `64MiB`, `3MB`, `512B`; a number without a unit is refused.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let wrong = || format!("must be a size such as 64MiB, got {text}");
    if text.ends_with(|last: char| last.is_ascii_digit()) {
        return Err(wrong());
    }
    text.parse::<bytesize::ByteSize>().map(|size| size.as_u64()).map_err(|_| wrong())
}

/// Reads `5%` as 0.05.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let wrong = || format!("must be a share from 0% to 100%, got {text}");
    let percent: f64 =
        text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end().parse().map_err(|_| wrong())?;
    if (0.0..=100.0).contains(&percent) { Ok(percent / 100.0) } else { Err(wrong()) }
}

/// Text as an operator typed it: YAML reads `5` and `true` as other types, which the rule should name.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Text(String),
        Int(i64),
        Float(f64),
        Bool(bool),
    }
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Text(text) => text,
        Scalar::Int(number) => number.to_string(),
        Scalar::Float(number) => number.to_string(),
        Scalar::Bool(truth) => truth.to_string(),
    })
}

/// `#[serde(with = "units::duration")]`.
pub mod duration {
    use super::{Deserializer, de, parse_duration, text};
    use std::time::Duration;

    /// A duration with its unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse_duration(&text(deserializer)?).map_err(de::Error::custom)
    }
}

/// `#[serde(with = "units::optional_duration")]`, for a key that is left out or holds a duration.
pub mod optional_duration {
    use super::{Deserializer, duration};
    use std::time::Duration;

    /// A duration with its unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(deserializer).map(Some)
    }
}

/// `#[serde(with = "units::size")]`.
pub mod size {
    use super::{Deserializer, de, parse_size, text};

    /// Bytes with their unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        parse_size(&text(deserializer)?).map_err(de::Error::custom)
    }
}

/// `#[serde(with = "units::share")]`.
pub mod share {
    use super::{Deserializer, de, parse_share, text};

    /// A share with its percent sign, as 0..1.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        parse_share(&text(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer)?;
        if text.trim_end().ends_with('%') {
            parse_share(&text).map(Budget::Share).map_err(de::Error::custom)
        } else {
            parse_size(&text).map(Budget::Bytes).map_err(de::Error::custom)
        }
    }
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer)?;
        if text == "auto" {
            return Ok(MemoryLimit::Auto);
        }
        Budget::deserialize(de::value::StringDeserializer::new(text)).map(MemoryLimit::Given)
    }
}

impl<'de> Deserialize<'de> for super::Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer)?;
        if text == "learned" {
            return Ok(super::Threshold::Learned);
        }
        parse_duration(&text).map(super::Threshold::Fixed).map_err(|_| {
            de::Error::custom(format!("must be `learned` or a duration such as 300ms, got {text}"))
        })
    }
}
