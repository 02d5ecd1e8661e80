//! Subscriptions by pattern. All patterns of a group are matched together, so that they cause one rebalance, and not more often
//! than every ten seconds: soon when a member brings a new one or topics are created, else every
//! `group.consumer.regex.refresh.interval.ms`.

use std::collections::BTreeSet;

use super::ConsumerGroup;
use super::records;
use super::topics::hash;
use crate::error::{ApiError, ErrorCode};
use crate::groups::context::{Context, Timer};
use crate::groups::records::ConsumerGroupRegularExpressionValue;

/// Kafka's `REGEX_BATCH_REFRESH_MIN_INTERVAL_MS`.
const MIN_REFRESH_INTERVAL_MS: i64 = 10_000;

/// Refuses what is no pattern.
pub(super) fn check(ctx: &Context<'_>, pattern: &str) -> Result<(), ApiError> {
    match ctx.patterns.matching(pattern, &mut std::iter::empty()) {
        Ok(_) => Ok(()),
        Err(reason) => Err(ErrorCode::InvalidRegularExpression.with(format!(
            "SubscribedTopicRegex `{pattern}` is not a valid regular expression: {reason}."
        ))),
    }
}

impl ConsumerGroup {
    /// A member subscribes by a pattern.
    pub fn has_patterns(&self) -> bool {
        !self.state.patterns.is_empty()
    }

    /// Matches the patterns as soon as that may be: there are new ones, or new topics.
    pub fn refresh_patterns_soon(&self, ctx: &mut Context<'_>) {
        self.schedule_refresh(ctx, MIN_REFRESH_INTERVAL_MS);
    }

    fn schedule_refresh(&self, ctx: &mut Context<'_>, interval_ms: i64) {
        // They were all matched together.
        let last = self.state.resolved.values().next();
        let delay_ms = last.map_or(0, |last| {
            let due = last.timestamp.saturating_add(interval_ms);
            due.saturating_sub(ctx.now.timestamp.0).clamp(0, interval_ms)
        });
        let timer = Timer::ConsumerPatterns(self.group_id.clone());
        let due = ctx.after_ms(delay_ms);
        if ctx.timers.due(&timer).is_none_or(|other| due < other) {
            ctx.timers.set(timer, due);
        }
    }

    /// After a load: new topics may have come meanwhile.
    pub(super) fn load_patterns(&self, ctx: &mut Context<'_>) {
        let Some(last) = self.state.resolved.values().next() else {
            if self.has_patterns() {
                self.refresh_patterns_soon(ctx);
            }
            return;
        };
        let is_complete = self.state.patterns.len() == self.state.resolved.len();
        if is_complete && last.version >= ctx.image.provenance.offset.0 {
            self.schedule_refresh(ctx, ctx.settings.consumer_regex_refresh_interval_ms);
        } else {
            self.refresh_patterns_soon(ctx);
        }
    }

    /// Matches the patterns against the topics of now.
    pub(super) fn refresh_patterns(&mut self, ctx: &mut Context<'_>) {
        let state = &self.state;
        if state.patterns.is_empty() {
            return;
        }
        let mut records = Vec::with_capacity(state.patterns.len());
        let mut changed = false;
        let by_name = state.subscriptions.iter().filter(|(_, count)| count.by_name > 0);
        let mut subscribed: BTreeSet<String> = by_name.map(|(name, _)| name.to_string()).collect();
        for pattern in state.patterns.keys() {
            let mut names = ctx.image.topics.iter().map(|topic| &topic.name);
            // It was checked when a member brought it.
            let topics = ctx.patterns.matching(pattern, &mut names).unwrap_or_default();
            let topics: BTreeSet<String> = topics.iter().map(|name| name.to_string()).collect();
            let known = state.resolved.get(pattern);
            // One that is new and matches nothing counts, too: its members may have had topics by another. Kafka leaves the
            // partitions of those to nobody until something else changes.
            changed |= known.is_none_or(|known| known.topics != topics);
            subscribed.extend(topics.iter().cloned());
            let value = ConsumerGroupRegularExpressionValue {
                topics: topics.into_iter().collect(),
                version: ctx.image.provenance.offset.0,
                timestamp: ctx.now.timestamp.0,
                unknown_tagged_fields: Vec::new(),
            };
            records.push(records::pattern(&self.group_id, pattern, Some(value)));
        }
        ctx.effects.records.append(&mut records);
        let hash = hash(ctx.image, subscribed.iter().map(String::as_str));
        let epoch = self.update_epoch(ctx, changed, hash);
        if epoch > self.state.epoch {
            let settings = ctx.settings.consumer_group(ctx.image, &self.group_id);
            self.schedule_assignment(ctx, &settings);
        }
        let interval_ms = ctx.settings.consumer_regex_refresh_interval_ms;
        ctx.set_timer(Timer::ConsumerPatterns(self.group_id.clone()), interval_ms);
    }
}
