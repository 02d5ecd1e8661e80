import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** The driver of the Java clients. */
public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    /** Ends a request before the matrix gives up on the driver. */
    private static final long LIMIT_MS = 50_000;
    private static final int DEFAULT_MAX_BYTES = 16 << 20;

    private final String family;
    private final String bootstrap;
    private final PrintStream replies;
    private final Map<Map<String, Object>, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private final Map<Integer, KafkaConsumer<byte[], byte[]>> consumers = new HashMap<>();
    private Admin admin;
    private Member member;

    private Driver(String family, String bootstrap, PrintStream replies) {
        this.family = family;
        this.bootstrap = bootstrap;
        this.replies = replies;
    }

    public static void main(String[] args) throws Exception {
        Driver driver = new Driver(args[0], args[1], System.out);
        System.setOut(System.err);
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = requests.readLine()) != null; ) {
            ObjectNode reply;
            try {
                reply = driver.answer(JSON.readTree(line)).put("ok", true);
            } catch (Exception e) {
                reply = failure(e);
            }
            driver.reply(reply);
        }
        Runtime.getRuntime().halt(0);
    }

    private void reply(ObjectNode reply) {
        replies.println(reply);
        replies.flush();
    }

    private ObjectNode answer(JsonNode request) throws Exception {
        return switch (request.get("op").asText()) {
            case "hello" -> hello();
            case "produce" -> produce(request);
            case "fetch" -> fetch(request);
            case "offsets" -> offsets(request);
            case "offset_for_time" -> offsetForTime(request);
            case "create_topic" -> createTopic(request);
            case "partitions" -> partitions(request);
            case "grow_topic" -> growTopic(request);
            case "alter_config" -> alterConfig(request);
            case "describe_config" -> describeConfig(request);
            case "delete_topic" -> deleteTopic(request);
            case "read_until_error" -> readUntilError(request);
            case "join_group" -> joinGroup(request);
            case "poll_group" -> events(member.poll(request.get("timeout_ms").asLong()));
            case "leave_group" -> events(member.leave());
            default -> throw new IllegalArgumentException("unknown request " + request);
        };
    }

    private ObjectNode hello() {
        ObjectNode reply = JSON.createObjectNode().put("family", family).put("reads", true);
        reply.put("library", "kafka-clients " + AppInfoParser.getVersion());
        reply.putArray("codecs").add("none").add("gzip").add("snappy").add("lz4").add("zstd");
        ArrayNode groups = reply.putArray("groups");
        Member.ASSIGNORS.keySet().forEach(groups::add);
        // Before 4.0 a partition may begin at the earliest offset although a later one is committed (KAFKA-17674).
        if (!AppInfoParser.getVersion().startsWith("3.")) {
            groups.add(Member.CONSUMER);
        }
        return reply;
    }

    private ObjectNode produce(JsonNode request) throws Exception {
        boolean batch = request.get("batch").asBoolean();
        KafkaProducer<byte[], byte[]> producer = producer(request, batch);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode record : request.get("records")) {
            sent.add(producer.send(record(request, record)));
            if (!batch) {
                get(sent.get(sent.size() - 1));
            }
        }
        producer.flush();
        ObjectNode reply = JSON.createObjectNode();
        ArrayNode offsets = reply.putArray("offsets");
        for (Future<RecordMetadata> one : sent) {
            RecordMetadata metadata = get(one);
            offsets.add(metadata.hasOffset() ? metadata.offset() : null);
        }
        return reply;
    }

    private KafkaProducer<byte[], byte[]> producer(JsonNode request, boolean batch) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("compression.type", request.get("codec").asText());
        config.put("acks", request.get("acks").asText());
        config.put("enable.idempotence", request.get("idempotent").asBoolean());
        config.put("max.block.ms", LIMIT_MS);
        if (batch) {
            // The flush after the last record ends the wait.
            config.put("linger.ms", 10_000);
            config.put("batch.size", 4 << 20);
        }
        if (request.hasNonNull("max_message_bytes")) {
            config.put("max.request.size", request.get("max_message_bytes").asInt());
        }
        return producers.computeIfAbsent(
                config, c -> new KafkaProducer<>(c, new ByteArraySerializer(), new ByteArraySerializer()));
    }

    private static ProducerRecord<byte[], byte[]> record(JsonNode request, JsonNode record) {
        List<Header> headers = new ArrayList<>();
        for (JsonNode header : record.path("headers")) {
            headers.add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
        }
        Long timestamp = record.hasNonNull("timestamp") ? record.get("timestamp").asLong() : null;
        return new ProducerRecord<>(
                request.get("topic").asText(),
                request.get("partition").asInt(),
                timestamp,
                bytes(record.path("key")),
                bytes(record.path("value")),
                headers);
    }

    private ObjectNode fetch(JsonNode request) throws Exception {
        KafkaConsumer<byte[], byte[]> consumer =
                consumerAt(request, request.path("max_bytes").asInt(DEFAULT_MAX_BYTES));
        int count = request.get("count").asInt();
        long deadline = deadline(request);
        ObjectNode reply = JSON.createObjectNode();
        ArrayNode records = reply.putArray("records");
        while (records.size() < count) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("only " + records.size() + " of " + count + " records came");
            }
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                if (records.size() < count) {
                    records.add(seen(record));
                }
            }
        }
        consumer.unsubscribe();
        return reply;
    }

    private ObjectNode readUntilError(JsonNode request) {
        KafkaConsumer<byte[], byte[]> consumer = consumerAt(request, DEFAULT_MAX_BYTES);
        long deadline = deadline(request);
        int count = 0;
        try {
            while (System.nanoTime() < deadline) {
                int before = count;
                count += consumer.poll(Duration.ofMillis(100)).count();
                if (before == 0 && count > 0) {
                    deadline = deadline(request);
                    reply(JSON.createObjectNode().put("ok", true).put("reading", true));
                }
            }
        } catch (KafkaException e) {
            return failure(e).put("records", count);
        } finally {
            consumer.unsubscribe();
        }
        return JSON.createObjectNode().put("records", count).put("ended", "timeout");
    }

    private KafkaConsumer<byte[], byte[]> consumerAt(JsonNode request, int maxBytes) {
        KafkaConsumer<byte[], byte[]> consumer = consumers.computeIfAbsent(maxBytes, this::newConsumer);
        consumer.assign(List.of(partition(request)));
        consumer.seek(partition(request), request.get("offset").asLong());
        return consumer;
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        return consumers.computeIfAbsent(DEFAULT_MAX_BYTES, this::newConsumer);
    }

    private KafkaConsumer<byte[], byte[]> newConsumer(int maxBytes) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("enable.auto.commit", false);
        config.put("auto.offset.reset", "none");
        config.put("fetch.max.bytes", maxBytes);
        config.put("max.partition.fetch.bytes", maxBytes);
        // A fetch that waits at the broker holds up the next one.
        config.put("fetch.max.wait.ms", 20);
        config.put("default.api.timeout.ms", (int) LIMIT_MS);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private ObjectNode offsets(JsonNode request) {
        TopicPartition partition = partition(request);
        return JSON.createObjectNode()
                .put("earliest", consumer().beginningOffsets(List.of(partition)).get(partition))
                .put("latest", consumer().endOffsets(List.of(partition)).get(partition));
    }

    private ObjectNode offsetForTime(JsonNode request) {
        TopicPartition partition = partition(request);
        OffsetAndTimestamp found = consumer()
                .offsetsForTimes(Map.of(partition, request.get("timestamp").asLong()))
                .get(partition);
        return JSON.createObjectNode().put("offset", found == null ? null : (Long) found.offset());
    }

    private ObjectNode createTopic(JsonNode request) throws Exception {
        Map<String, String> configs = new HashMap<>();
        request.get("configs").properties().forEach(config -> configs.put(config.getKey(), config.getValue().asText()));
        NewTopic topic = new NewTopic(topic(request), request.get("partitions").asInt(), (short) 1).configs(configs);
        get(admin().createTopics(List.of(topic)).all());
        return JSON.createObjectNode();
    }

    private ObjectNode partitions(JsonNode request) throws Exception {
        int count = get(admin().describeTopics(List.of(topic(request))).allTopicNames())
                .get(topic(request))
                .partitions()
                .size();
        return JSON.createObjectNode().put("count", count);
    }

    private ObjectNode growTopic(JsonNode request) throws Exception {
        NewPartitions more = NewPartitions.increaseTo(request.get("count").asInt());
        get(admin().createPartitions(Map.of(topic(request), more)).all());
        return JSON.createObjectNode();
    }

    private ObjectNode alterConfig(JsonNode request) throws Exception {
        ConfigEntry entry = new ConfigEntry(request.get("key").asText(), request.get("value").asText());
        AlterConfigOp set = new AlterConfigOp(entry, AlterConfigOp.OpType.SET);
        get(admin().incrementalAlterConfigs(Map.of(resource(request), List.of(set))).all());
        return JSON.createObjectNode();
    }

    private ObjectNode describeConfig(JsonNode request) throws Exception {
        String value = get(admin().describeConfigs(List.of(resource(request))).all())
                .get(resource(request))
                .get(request.get("key").asText())
                .value();
        return JSON.createObjectNode().put("value", value);
    }

    private ObjectNode deleteTopic(JsonNode request) throws Exception {
        get(admin().deleteTopics(List.of(topic(request))).all());
        return JSON.createObjectNode();
    }

    private ObjectNode joinGroup(JsonNode request) {
        member = new Member(request, new HashMap<>(Map.of("bootstrap.servers", bootstrap)));
        return JSON.createObjectNode();
    }

    private static ObjectNode events(ArrayNode events) {
        ObjectNode reply = JSON.createObjectNode();
        reply.set("events", events);
        return reply;
    }

    private Admin admin() {
        if (admin == null) {
            admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", (int) LIMIT_MS));
        }
        return admin;
    }

    private static String topic(JsonNode request) {
        return request.get("topic").asText();
    }

    private static TopicPartition partition(JsonNode request) {
        return new TopicPartition(topic(request), request.get("partition").asInt());
    }

    private static ConfigResource resource(JsonNode request) {
        return new ConfigResource(ConfigResource.Type.TOPIC, topic(request));
    }

    private static long deadline(JsonNode request) {
        return System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(request.get("timeout_ms").asLong());
    }

    private static <T> T get(Future<T> future) throws Exception {
        try {
            return future.get(LIMIT_MS, TimeUnit.MILLISECONDS);
        } catch (ExecutionException e) {
            throw e.getCause() instanceof Exception cause ? cause : e;
        }
    }

    private static ObjectNode failure(Exception e) {
        ObjectNode reply = JSON.createObjectNode().put("error", e.toString());
        Errors error = Errors.forException(e);
        return error == Errors.UNKNOWN_SERVER_ERROR
                ? reply.put("client_error", e.getClass().getSimpleName())
                : reply.put("kafka_error", error.code());
    }

    private static byte[] bytes(JsonNode bytes) {
        if (bytes.isNull() || bytes.isMissingNode()) {
            return null;
        }
        if (bytes.has("text")) {
            return bytes.get("text").asText().getBytes(StandardCharsets.UTF_8);
        }
        int seed = bytes.get("seed").asInt();
        byte[] made = new byte[bytes.get("size").asInt()];
        for (int i = 0; i < made.length; i++) {
            made[i] = (byte) (i * 31 + (i >> 8) * 17 + seed * 7);
        }
        return made;
    }

    private static ObjectNode seen(ConsumerRecord<byte[], byte[]> record) throws Exception {
        ObjectNode seen = JSON.createObjectNode().put("offset", record.offset()).put("timestamp", record.timestamp());
        seen.put("timestamp_type", record.timestampType().id);
        seen.set("key", seen(record.key()));
        seen.set("value", seen(record.value()));
        ArrayNode headers = seen.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(seen(header.value()));
        }
        return seen;
    }

    private static JsonNode seen(byte[] bytes) throws Exception {
        if (bytes == null) {
            return JSON.nullNode();
        }
        String sha256 = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
        return JSON.createObjectNode().put("size", bytes.length).put("sha256", sha256);
    }
}
