import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A member of a group: what comes when it polls is processed. */
final class Member implements ConsumerRebalanceListener {
    static final Map<String, String> ASSIGNORS = Map.of(
            "range", "org.apache.kafka.clients.consumer.RangeAssignor",
            "roundrobin", "org.apache.kafka.clients.consumer.RoundRobinAssignor",
            "sticky", "org.apache.kafka.clients.consumer.StickyAssignor",
            "cooperative-sticky", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
    static final String CONSUMER = "consumer";

    /** Records between two commits. */
    private static final int FEW = 10;
    /** How often a commit that must not fail is tried again, and how long after the last time. */
    private static final int ATTEMPTS = 40;
    private static final long PAUSE_MS = 50;

    private final KafkaConsumer<byte[], byte[]> consumer;
    /** Where to go on with what was processed and not committed. */
    private final Map<TopicPartition, OffsetAndMetadata> uncommitted = new HashMap<>();
    private int records;
    private ArrayNode events = JsonNodeFactory.instance.arrayNode();

    Member(JsonNode request, Map<String, Object> config) {
        String assignor = request.get("assignor").asText();
        config.put("group.id", request.get("group").asText());
        config.put("enable.auto.commit", false);
        config.put("auto.offset.reset", "earliest");
        config.put("fetch.max.wait.ms", 20);
        if (assignor.equals(CONSUMER)) {
            config.put("group.protocol", CONSUMER);
        } else {
            int sessionTimeoutMs = request.get("session_timeout_ms").asInt();
            config.put("partition.assignment.strategy", ASSIGNORS.get(assignor));
            config.put("session.timeout.ms", sessionTimeoutMs);
            config.put("heartbeat.interval.ms", sessionTimeoutMs / 10);
        }
        consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(request.get("topic").asText()), this);
    }

    ArrayNode poll(long timeoutMs) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(timeoutMs))) {
            events.addObject().putArray("record").add(record.partition()).add(record.offset());
            uncommitted.put(
                    new TopicPartition(record.topic(), record.partition()),
                    new OffsetAndMetadata(record.offset() + 1));
            records++;
        }
        if (records >= FEW) {
            commit();
        }
        return takeEvents();
    }

    ArrayNode leave() {
        commitSurely();
        consumer.close();
        return takeEvents();
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        event("assigned", partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        commitSurely();
        event("revoked", partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        uncommitted.keySet().removeAll(partitions);
        event("revoked", partitions);
    }

    private void event(String name, Collection<TopicPartition> partitions) {
        ArrayNode numbers = events.addObject().putArray(name);
        partitions.forEach(partition -> numbers.add(partition.partition()));
    }

    private ArrayNode takeEvents() {
        ArrayNode taken = events;
        events = JsonNodeFactory.instance.arrayNode();
        return taken;
    }

    /** Returns false if the group has moved on and the member did not hear of it yet. */
    private boolean commit() {
        try {
            if (!uncommitted.isEmpty()) {
                consumer.commitSync(uncommitted);
            }
        } catch (RebalanceInProgressException | CommitFailedException e) {
            return false;
        }
        uncommitted.clear();
        records = 0;
        return true;
    }

    private void commitSurely() {
        for (int attempt = 0; !commit(); attempt++) {
            if (attempt == ATTEMPTS) {
                throw new IllegalStateException("cannot commit " + uncommitted);
            }
            try {
                Thread.sleep(PAUSE_MS);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }
    }
}
