//! Values of settings: their types, their limits, and what people are told of a bad one.

use std::fmt;

use super::group::is_share_offset_reset;
use super::setting::{Setting, SettingType};

/// Which values a setting allows. A list holds no value twice and no empty one, whatever its check.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    /// All of the type.
    Any,
    /// Numbers from this on.
    AtLeast(i64),
    /// Numbers from the first to the second.
    Between(i64, i64),
    /// Fractions from the first to the second.
    Within(f64, f64),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// One of these in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// Some of these, or none.
    ListOf(&'static [&'static str]),
    /// Some of these.
    NonEmptyListOf(&'static [&'static str]),
    /// A list.
    Distinct,
    /// A list that is not empty.
    NonEmptyDistinct,
    /// Any text but the empty one.
    NonEmpty,
    /// 1 to 9, or -1.
    GzipLevel,
    /// Any time but none: negative ones are no limit.
    Retention,
    /// `*`, or pairs of partition and broker.
    ThrottledReplicas,
    /// Where a share group begins.
    ShareOffsetReset,
}

/// A parsed value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A BOOLEAN.
    Boolean(bool),
    /// An INT, SHORT or LONG.
    Number(i64),
    /// A DOUBLE.
    Double(f64),
    /// A STRING, CLASS or PASSWORD.
    Text(String),
    /// A LIST.
    List(Vec<String>),
}

/// A value that a setting does not allow: what to tell of it, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(pub String);

impl InvalidValue {
    fn of(name: &str, value: impl fmt::Display, why: impl fmt::Display) -> Self {
        InvalidValue(format!("Invalid value {value} for configuration {name}: {why}"))
    }
}

impl fmt::Display for Value {
    /// As DescribeConfigs shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => value.fmt(f),
            Value::Number(value) => value.fmt(f),
            Value::Double(value) => fmt_double(*value, f),
            Value::Text(value) => value.fmt(f),
            Value::List(values) => f.write_str(&values.join(",")),
        }
    }
}

/// As Java writes a double: with a fraction, and with an exponent from 10^7 on and below 10^-3.
fn fmt_double(value: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) || !value.is_finite() {
        return write!(f, "{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => write!(f, "{digits}.0E{exponent}"),
        Some((digits, exponent)) => write!(f, "{digits}E{exponent}"),
        None => f.write_str(&text),
    }
}

impl Setting {
    /// Reads a value as Kafka does and checks it.
    pub fn parse(&self, text: &str) -> Result<Value, InvalidValue> {
        let value = self.parse_type(text)?;
        self.check(&value)?;
        Ok(value)
    }

    fn parse_type(&self, text: &str) -> Result<Value, InvalidValue> {
        let trimmed = text.trim();
        let not_a_number = |_| {
            InvalidValue::of(
                self.name,
                text,
                format_args!("Not a number of type {}", self.kind.name()),
            )
        };
        Ok(match self.kind {
            SettingType::Boolean if trimmed.eq_ignore_ascii_case("true") => Value::Boolean(true),
            SettingType::Boolean if trimmed.eq_ignore_ascii_case("false") => Value::Boolean(false),
            SettingType::Boolean => {
                return Err(InvalidValue::of(
                    self.name,
                    text,
                    "Expected value to be either true or false",
                ));
            }
            SettingType::Short => Value::Number(trimmed.parse::<i16>().map(i64::from).map_err(not_a_number)?),
            SettingType::Int => Value::Number(trimmed.parse::<i32>().map(i64::from).map_err(not_a_number)?),
            SettingType::Long => Value::Number(trimmed.parse::<i64>().map_err(not_a_number)?),
            SettingType::Double => {
                let number = trimmed.parse::<f64>();
                Value::Double(number.map_err(|_| InvalidValue::of(self.name, text, "Not a number of type DOUBLE"))?)
            }
            SettingType::List if trimmed.is_empty() => Value::List(Vec::new()),
            SettingType::List => Value::List(trimmed.split(',').map(|item| item.trim().to_owned()).collect()),
            SettingType::String | SettingType::Class | SettingType::Password | SettingType::Unknown => {
                Value::Text(trimmed.to_owned())
            }
        })
    }

    fn check(&self, value: &Value) -> Result<(), InvalidValue> {
        match value {
            Value::Boolean(_) => Ok(()),
            Value::Number(number) => self.check_number(*number),
            Value::Double(number) => match self.check {
                Check::Within(least, _) if *number < least => Err(InvalidValue::of(
                    self.name,
                    value,
                    format_args!("Value must be at least {least}"),
                )),
                Check::Within(_, most) if *number > most => Err(InvalidValue::of(
                    self.name,
                    value,
                    format_args!("Value must be no more than {most}"),
                )),
                _ => Ok(()),
            },
            Value::Text(text) => match self.check {
                Check::OneOf(allowed) => one_of(self.name, text, allowed),
                Check::OneOfAnyCase(allowed) if !allowed.iter().any(|known| known.eq_ignore_ascii_case(text)) => {
                    Err(InvalidValue::of(
                        self.name,
                        text,
                        format_args!("String must be one of (case insensitive): {}", allowed.join(", ")),
                    ))
                }
                Check::ShareOffsetReset if !is_share_offset_reset(text) => {
                    let why = format!(
                        "Invalid value `{text}` for configuration {}. The value must be either 'earliest', 'latest' or \
                         of the format 'by_duration:<PnDTnHnMn.nS>'.",
                        self.name
                    );
                    Err(InvalidValue::of(self.name, text, why))
                }
                Check::NonEmpty if text.is_empty() => {
                    Err(InvalidValue::of(self.name, text, "String must be non-empty"))
                }
                _ => Ok(()),
            },
            Value::List(items) => self.check_list(items),
        }
    }

    fn check_number(&self, number: i64) -> Result<(), InvalidValue> {
        match self.check {
            Check::AtLeast(least) | Check::Between(least, _) if number < least => Err(InvalidValue::of(
                self.name,
                number,
                format_args!("Value must be at least {least}"),
            )),
            Check::Between(_, most) if number > most => Err(InvalidValue::of(
                self.name,
                number,
                format_args!("Value must be no more than {most}"),
            )),
            Check::GzipLevel if number != -1 && !(1..=9).contains(&number) => Err(InvalidValue::of(
                self.name,
                number,
                "Value must be between 1 and 9 or equal to -1",
            )),
            Check::Retention if number == 0 => Err(InvalidValue::of(
                self.name,
                number,
                "Value must be unlimited (-1) or, greater than or equal to 1",
            )),
            _ => Ok(()),
        }
    }

    fn check_list(&self, items: &[String]) -> Result<(), InvalidValue> {
        let name = self.name;
        let allowed = match self.check {
            Check::ListOf(allowed) | Check::NonEmptyListOf(allowed) => allowed,
            Check::ThrottledReplicas => return throttled_replicas(name, items),
            Check::Distinct | Check::NonEmptyDistinct => &[],
            _ => return Ok(()),
        };
        if items.is_empty() && matches!(self.check, Check::NonEmptyListOf(_) | Check::NonEmptyDistinct) {
            let any = "any non-empty value".to_owned();
            let valid = if allowed.is_empty() {
                any
            } else {
                format!("[{}]", allowed.join(", "))
            };
            return Err(InvalidValue(format!(
                "Configuration '{name}' must not be empty. Valid values include: {valid}"
            )));
        }
        for (index, item) in items.iter().enumerate() {
            if items.iter().take(index).any(|other| other == item) {
                return Err(InvalidValue(format!(
                    "Configuration '{name}' values must not be duplicated."
                )));
            }
        }
        for item in items {
            if item.is_empty() {
                return Err(InvalidValue(format!(
                    "Configuration '{name}' values must not be empty."
                )));
            }
            if !allowed.is_empty() {
                one_of(name, item, allowed)?;
            }
        }
        Ok(())
    }
}

fn one_of(name: &str, text: &str, allowed: &[&str]) -> Result<(), InvalidValue> {
    if allowed.contains(&text) {
        return Ok(());
    }
    Err(InvalidValue::of(
        name,
        text,
        format_args!("String must be one of: {}", allowed.join(", ")),
    ))
}

fn throttled_replicas(name: &str, items: &[String]) -> Result<(), InvalidValue> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_pair = |item: &String| {
        item.is_empty()
            || item
                .split_once(':')
                .is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
    };
    if items.iter().all(is_pair) || items.concat() == "*" {
        return Ok(());
    }
    Err(InvalidValue::of(
        name,
        format_args!("[{}]", items.join(", ")),
        format_args!(
            "{name} must be the literal '*' or a list of replicas in the following format: \
             [partitionId]:[brokerId],[partitionId]:[brokerId],..."
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::{broker_setting, topic_setting};

    fn topic_error(name: &str, value: &str) -> String {
        topic_setting(name)
            .unwrap()
            .setting
            .parse(value)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn bad_values_are_refused_with_kafkas_words() {
        for (name, value, why) in [
            ("retention.ms", "-5", "Value must be at least -1"),
            ("retention.ms", " soon", "Not a number of type LONG"),
            ("segment.bytes", "3000000000", "Not a number of type INT"),
            ("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1"),
            ("preallocate", "yes", "Expected value to be either true or false"),
            ("cleanup.policy", "keep", "String must be one of: compact, delete"),
            (
                "compression.gzip.level",
                "0",
                "Value must be between 1 and 9 or equal to -1",
            ),
            ("compression.lz4.level", "18", "Value must be no more than 17"),
        ] {
            assert_eq!(
                topic_error(name, value),
                format!("Invalid value {value} for configuration {name}: {why}")
            );
        }
        assert_eq!(
            broker_setting("log.retention.minutes")
                .unwrap()
                .parse("0")
                .unwrap_err()
                .to_string(),
            "Invalid value 0 for configuration log.retention.minutes: Value must be unlimited (-1) or, greater than or \
             equal to 1"
        );
        assert_eq!(
            topic_error("cleanup.policy", "delete,delete"),
            "Configuration 'cleanup.policy' values must not be duplicated."
        );
        assert_eq!(
            topic_error("leader.replication.throttled.replicas", "0:1, x"),
            "Invalid value [0:1, x] for configuration leader.replication.throttled.replicas: \
             leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following \
             format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
        );
        let empty = broker_setting("process.roles").unwrap().parse("").unwrap_err();
        assert_eq!(
            empty.to_string(),
            "Configuration 'process.roles' must not be empty. Valid values include: [broker, controller]"
        );
    }

    #[test]
    fn values_are_shown_as_kafka_shows_them() {
        let shown = |name: &str, value: &str| broker_setting(name).unwrap().parse(value).unwrap().to_string();
        assert_eq!(shown("log.cleaner.io.max.bytes.per.second", "1e10"), "1.0E10");
        assert_eq!(shown("log.cleaner.min.cleanable.ratio", "1"), "1.0");
        assert_eq!(shown("log.cleanup.policy", " compact , delete"), "compact,delete");
        assert_eq!(shown("auto.create.topics.enable", "TRUE "), "true");
    }
}
