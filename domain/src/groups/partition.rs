//! Which partition of `__consumer_offsets` a group belongs to.

use crate::ids::PartitionId;

/// The partition of a group: the absolute value of Java's hash of the string (0 for the one that has none), modulo the
/// number of partitions.
pub fn partition_for(group_id: &str, partition_count: i32) -> PartitionId {
    let hash = group_id
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    PartitionId(
        hash.checked_abs()
            .unwrap_or(0)
            .checked_rem(partition_count)
            .unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_lie_where_kafka_puts_them() {
        // "".hashCode() is 0, "group".hashCode() is 98629247, "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_for("", 50), PartitionId(0));
        assert_eq!(partition_for("group", 50), PartitionId(47));
        assert_eq!(partition_for("polygenelubricants", 50), PartitionId(0));
        // "my-group".hashCode() is -1906497762.
        assert_eq!(partition_for("my-group", 50), PartitionId(12));
        assert_eq!(partition_for("grüße", 0), PartitionId(0));
    }
}
