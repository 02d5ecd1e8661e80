//! The range assignor. Static members come first, by their instance ids, so that they keep their ranges when they come back
//! under other member ids.

use std::collections::BTreeMap;

use super::{GroupSpec, MemberSpec, Partitions};
use crate::ids::{PartitionId, TopicId};

/// How a topic is cut into ranges.
struct Ranges {
    /// Where the next range begins.
    next: i32,
    /// The length of each range.
    length: i32,
    /// So many of the next ranges are longer by one.
    longer: i32,
}

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Partitions> {
    let mut order: Vec<(usize, &MemberSpec<'_>)> = group.members.iter().enumerate().collect();
    order.sort_by_key(|(_, member)| (member.instance_id.is_none(), member.instance_id, member.member_id));

    let mut subscribers: BTreeMap<TopicId, i32> = BTreeMap::new();
    for topic in group.members.iter().flat_map(|member| member.topics.iter()) {
        *subscribers.entry(*topic).or_default() += 1;
    }
    let mut ranges: BTreeMap<TopicId, Ranges> = subscribers
        .into_iter()
        .map(|(topic, subscribers)| {
            let partitions = group.partition_count(topic);
            let ranges = Ranges {
                next: 0,
                length: partitions / subscribers,
                longer: partitions % subscribers,
            };
            (topic, ranges)
        })
        .collect();

    let mut assigned = vec![Partitions::new(); group.members.len()];
    for (index, member) in order {
        let Some(assigned) = assigned.get_mut(index) else {
            continue;
        };
        for topic in member.topics.iter() {
            let Some(ranges) = ranges.get_mut(topic) else {
                continue;
            };
            let mut end = ranges.next + ranges.length;
            if ranges.longer > 0 {
                ranges.longer -= 1;
                end += 1;
            }
            if ranges.next < end {
                assigned.insert(*topic, (ranges.next..end).map(PartitionId).collect());
            }
            ranges.next = end;
        }
    }
    assigned
}
