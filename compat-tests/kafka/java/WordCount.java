import java.time.Duration;
import java.util.BitSet;
import java.util.Properties;

import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Aggregator;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Kafka Streams at least once: counts the numbers that were seen beside a word, a minute and in total.
 *
 * Records of APP-lines have a number as key and a word as value. Stores keep the sets of numbers, so that a record
 * counts once however often it is processed. APP-counts gets word@window=count and word=count.
 *
 * Arguments: bootstrap servers, application id, state directory.
 */
public final class WordCount {
    public static void main(String[] args) {
        Properties config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, args[2]);
        config.put(StreamsConfig.GROUP_PROTOCOL_CONFIG, "classic");
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        // Every change comes out at once, but what a kill finds uncommitted is a second's work.
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        config.put(StreamsConfig.REPARTITION_PURGE_INTERVAL_MS_CONFIG, 1000);
        // A killed member is missed for so long.
        config.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
        config.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 1000);

        StreamsBuilder builder = new StreamsBuilder();
        KGroupedStream<String, String> numbers = builder.<String, String>stream(args[1] + "-lines")
                .map((number, word) -> KeyValue.pair(word, number))
                .repartition(Repartitioned.<String, String>as("words").withNumberOfPartitions(4))
                .groupByKey();
        Aggregator<String, String, byte[]> add = (word, number, before) -> {
            BitSet seen = BitSet.valueOf(before);
            seen.set(Integer.parseInt(number));
            return seen.toByteArray();
        };
        numbers.windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofHours(1)))
                .aggregate(() -> new byte[0], add,
                        Materialized.<String, byte[], WindowStore<Bytes, byte[]>>as("minutes")
                                .withValueSerde(Serdes.ByteArray()))
                .toStream((word, seen) -> word.key() + "@" + word.window().start())
                .mapValues(WordCount::count)
                .to(args[1] + "-counts");
        numbers.aggregate(() -> new byte[0], add,
                        Materialized.<String, byte[]>as(Stores.inMemoryKeyValueStore("totals"))
                                .withValueSerde(Serdes.ByteArray()))
                .toStream()
                .mapValues(WordCount::count)
                .to(args[1] + "-counts");

        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        streams.setStateListener((now, before) -> System.out.println(now));
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static String count(byte[] seen) {
        return String.valueOf(BitSet.valueOf(seen).cardinality());
    }
}
