// The driver of Segment's kafka-go.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"

	"ottla/driver"
)

var codecs = map[string]kafka.Compression{
	"none":   0,
	"gzip":   kafka.Gzip,
	"snappy": kafka.Snappy,
	"lz4":    kafka.Lz4,
	"zstd":   kafka.Zstd,
}

var balancers = map[string]kafka.GroupBalancer{
	"range":      kafka.RangeGroupBalancer{},
	"roundrobin": kafka.RoundRobinGroupBalancer{},
}

const (
	// How long the transport goes on without looking for new topics.
	metadataTTL = 100 * time.Millisecond
	maxWait     = 100 * time.Millisecond
)

type family struct {
	bootstrap string
	transport *kafka.Transport
	client    *kafka.Client
	writers   map[driver.Options]*kafka.Writer
	// A Reader is made for one partition, and reads on for ever: only the last one is kept.
	reader *reader
}

func main() {
	driver.Run(func(bootstrap string) (driver.Family, error) {
		transport := &kafka.Transport{MetadataTTL: metadataTTL}
		client := &kafka.Client{Addr: kafka.TCP(bootstrap), Transport: transport}
		writers := map[driver.Options]*kafka.Writer{}
		return &family{bootstrap: bootstrap, transport: transport, client: client, writers: writers}, nil
	})
}

func (f *family) Hello() driver.Hello {
	return driver.Hello{
		Family:  "kafka-go",
		Library: driver.Version("github.com/segmentio/kafka-go"),
		Codecs:  []string{"none", "gzip", "snappy", "lz4", "zstd"},
		CannotRead: map[string]string{
			"append-time": "readers give the time of the producer, not of the log",
		},
		Groups: slices.Sorted(maps.Keys(balancers)),
		// It writes subscriptions that others find too short, and reads none that are longer.
		Apart: true,
	}
}

func (f *family) Code(err error) (int, bool) {
	var each kafka.WriteErrors
	if errors.As(err, &each) {
		err = driver.First(each...)
	}
	var large kafka.MessageTooLargeError
	if errors.As(err, &large) {
		// The writer's own finding, although it says that it is Kafka's.
		return 0, false
	}
	var code kafka.Error
	return int(code), errors.As(err, &code)
}

// sent is what the writer carries along with a message.
type sent struct {
	partition int
	offset    *int64
}

func (f *family) Produce(ctx context.Context, p driver.Produce, records []driver.Record) ([]int64, error) {
	if p.Idempotent {
		return nil, driver.Unsupported("writers are not idempotent")
	}
	offsets := make([]int64, len(records))
	var messages []kafka.Message
	for i, record := range records {
		offsets[i] = -1
		message := kafka.Message{
			Topic:      p.Topic,
			Key:        record.Key,
			Value:      record.Value,
			Time:       record.Time(),
			WriterData: sent{int(p.Partition), &offsets[i]},
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, kafka.Header{Key: header.Name, Value: header.Value})
		}
		messages = append(messages, message)
	}
	size := 1
	if p.Batch {
		size = len(messages)
	}
	for chunk := range slices.Chunk(messages, size) {
		write := func() error { return f.writer(p.Options).WriteMessages(ctx, chunk...) }
		if err := knowing(write); err != nil {
			return nil, err
		}
	}
	return offsets, nil
}

// knowing gives the transport the time to learn of a topic that is new.
func knowing(do func() error) error {
	begin := time.Now()
	for {
		err := do()
		if !errors.Is(err, kafka.UnknownTopicOrPartition) || time.Since(begin) > 10*metadataTTL {
			return err
		}
		time.Sleep(metadataTTL)
	}
}

func (f *family) writer(o driver.Options) *kafka.Writer {
	if writer, ok := f.writers[o]; ok {
		return writer
	}
	writer := &kafka.Writer{
		Addr:      kafka.TCP(f.bootstrap),
		Transport: f.transport,
		Balancer: kafka.BalancerFunc(func(message kafka.Message, _ ...int) int {
			return message.WriterData.(sent).partition
		}),
		AllowAutoTopicCreation: true,
		RequiredAcks:           kafka.RequiredAcks(o.Acks),
		Compression:            codecs[o.Codec],
		// Runs before WriteMessages returns.
		Completion: func(messages []kafka.Message, err error) {
			for _, message := range messages {
				if err == nil && o.Acks != 0 {
					*message.WriterData.(sent).offset = message.Offset
				}
			}
		},
		BatchBytes: int64(o.MaxMessageBytes),
		BatchSize:  1,
	}
	if o.Batch {
		writer.BatchSize = 10_000
		writer.BatchTimeout = 100 * time.Millisecond
	}
	f.writers[o] = writer
	return writer
}

type reader struct {
	*kafka.Reader
	client   *kafka.Client
	at       driver.Place
	maxBytes int32
}

func (f *family) Open(_ context.Context, at driver.Place, offset int64, maxBytes int32) (driver.Reader, error) {
	if f.reader == nil || f.reader.at != at || f.reader.maxBytes != maxBytes {
		if f.reader != nil {
			_ = f.reader.Reader.Close()
		}
		f.reader = &reader{kafka.NewReader(kafka.ReaderConfig{
			Brokers:   []string{f.bootstrap},
			Topic:     at.Topic,
			Partition: int(at.Partition),
			MaxBytes:  int(maxBytes),
			// A fetch that waits at the broker holds up the next one.
			MaxWait: maxWait,
		}), f.client, at, maxBytes}
	}
	return f.reader, f.reader.SetOffset(offset)
}

func (r *reader) Next(ctx context.Context) ([]driver.Seen, error) {
	message, err := r.ReadMessage(ctx)
	if err != nil {
		return nil, err
	}
	key, value, headers := message.Key, message.Value, message.Headers
	isNil := func(header kafka.Header) bool { return header.Value == nil }
	if key == nil || value == nil || slices.ContainsFunc(headers, isNil) {
		// Readers give nil for null and for empty; the client's Fetch knows which it is.
		if key, value, headers, err = r.exactly(ctx, message.Offset); err != nil {
			return nil, err
		}
	}
	seen := driver.See(message.Offset, message.Time, key, value)
	for _, header := range headers {
		seen.AddHeader(header.Key, header.Value)
	}
	return []driver.Seen{seen}, nil
}

func (r *reader) exactly(ctx context.Context, offset int64) (key, value []byte, headers []kafka.Header, err error) {
	fetched, err := r.client.Fetch(ctx, &kafka.FetchRequest{
		Topic:     r.at.Topic,
		Partition: int(r.at.Partition),
		Offset:    offset,
		MaxBytes:  int64(r.maxBytes),
		MaxWait:   maxWait,
	})
	if err == nil {
		err = fetched.Error
	}
	if err != nil {
		return
	}
	for {
		record, err := fetched.Records.ReadRecord()
		if err != nil {
			return nil, nil, nil, err
		}
		if record.Offset == offset {
			key, keyErr := kafka.ReadAll(record.Key)
			value, valueErr := kafka.ReadAll(record.Value)
			return key, value, record.Headers, driver.First(keyErr, valueErr)
		}
	}
}

// Close leaves the reader to the next request.
func (r *reader) Close() {}

func (f *family) Offsets(ctx context.Context, at driver.Place) (int64, int64, error) {
	found, err := f.listed(ctx, at, kafka.FirstOffsetOf(int(at.Partition)), kafka.LastOffsetOf(int(at.Partition)))
	return found.FirstOffset, found.LastOffset, err
}

func (f *family) OffsetForTime(ctx context.Context, at driver.Place, timestamp int64) (int64, error) {
	wanted := kafka.OffsetRequest{Partition: int(at.Partition), Timestamp: timestamp}
	found, err := f.listed(ctx, at, wanted)
	for offset := range found.Offsets {
		return offset, err
	}
	return -1, err
}

func (f *family) listed(ctx context.Context, at driver.Place, wanted ...kafka.OffsetRequest) (kafka.PartitionOffsets, error) {
	request := &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{at.Topic: wanted}}
	var found kafka.PartitionOffsets
	err := knowing(func() error {
		listed, err := f.client.ListOffsets(ctx, request)
		if err != nil {
			return err
		}
		found = listed.Topics[at.Topic][0]
		return found.Error
	})
	return found, err
}

func (f *family) CreateTopic(ctx context.Context, topic string, partitions int32, configs map[string]string) error {
	config := kafka.TopicConfig{Topic: topic, NumPartitions: int(partitions), ReplicationFactor: 1}
	for key, value := range configs {
		config.ConfigEntries = append(config.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: value})
	}
	created, err := f.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{config}})
	if err != nil {
		return err
	}
	return created.Errors[topic]
}

func (f *family) Partitions(ctx context.Context, topic string) (int, error) {
	// The client answers from what its transport knows.
	conn, err := kafka.DialContext(ctx, "tcp", f.bootstrap)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	partitions, err := conn.ReadPartitions(topic)
	return len(partitions), err
}

func (f *family) GrowTopic(ctx context.Context, topic string, count int) error {
	config := kafka.TopicPartitionsConfig{Name: topic, Count: int32(count)}
	request := &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{config}}
	grown, err := f.client.CreatePartitions(ctx, request)
	if err != nil {
		return err
	}
	return grown.Errors[topic]
}

func (f *family) AlterConfig(ctx context.Context, topic, key, value string) error {
	resource := kafka.IncrementalAlterConfigsRequestResource{
		ResourceType: kafka.ResourceTypeTopic,
		ResourceName: topic,
		Configs: []kafka.IncrementalAlterConfigsRequestConfig{{
			Name:            key,
			Value:           value,
			ConfigOperation: kafka.ConfigOperationSet,
		}},
	}
	request := &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{resource}}
	altered, err := f.client.IncrementalAlterConfigs(ctx, request)
	if err != nil {
		return err
	}
	return altered.Resources[0].Error
}

func (f *family) DescribeConfig(ctx context.Context, topic, key string) (*string, error) {
	resource := kafka.DescribeConfigRequestResource{
		ResourceType: kafka.ResourceTypeTopic,
		ResourceName: topic,
		ConfigNames:  []string{key},
	}
	request := &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{resource}}
	described, err := f.client.DescribeConfigs(ctx, request)
	if err != nil {
		return nil, err
	}
	for _, entry := range described.Resources[0].ConfigEntries {
		if entry.ConfigName == key {
			return &entry.ConfigValue, nil
		}
	}
	return nil, driver.First(described.Resources[0].Error, fmt.Errorf("%s has no %s", topic, key))
}

func (f *family) DeleteTopic(ctx context.Context, topic string) error {
	deleted, err := f.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return deleted.Errors[topic]
}

func (f *family) Join(m *driver.Membership) (driver.Leave, error) {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                m.Group,
		Brokers:           []string{f.bootstrap},
		Topics:            []string{m.Topic},
		GroupBalancers:    []kafka.GroupBalancer{balancers[m.Assignor]},
		HeartbeatInterval: m.Heartbeat(),
		SessionTimeout:    m.Session,
		// It begins anew with five seconds' pause when the coordinator is not there yet.
		JoinGroupBackoff: m.Heartbeat(),
	})
	if err != nil {
		return nil, err
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			generation, err := group.Next(context.Background())
			if errors.Is(err, kafka.ErrGroupClosed) {
				return
			}
			if err != nil {
				m.Failed(err)
				continue
			}
			for _, at := range generation.Assignments[m.Topic] {
				generation.Start(func(ctx context.Context) { f.claim(ctx, m, generation, at) })
			}
		}
	}()
	return func(context.Context) error {
		err := group.Close()
		<-over
		return err
	}, nil
}

// claim reads a partition while a generation lasts; the group joins the next one when it returns.
func (f *family) claim(ctx context.Context, m *driver.Membership, g *kafka.Generation, at kafka.PartitionAssignment) {
	if ctx.Err() != nil {
		// Nobody waits for what begins after the end.
		return
	}
	m.Assigned(int32(at.ID))
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers:   []string{f.bootstrap},
		Topic:     m.Topic,
		Partition: at.ID,
		MaxWait:   maxWait,
	})
	defer reader.Close()
	next, uncommitted := at.Offset, 0
	commit := func() {
		err := g.CommitOffsets(map[string]map[int]int64{m.Topic: {at.ID: next}})
		m.Failed(err)
		if err == nil {
			uncommitted = 0
		}
	}
	err := reader.SetOffset(at.Offset)
	for err == nil {
		var message kafka.Message
		if message, err = reader.FetchMessage(ctx); err != nil {
			break
		}
		m.Processed(int32(at.ID), message.Offset)
		next = message.Offset + 1
		if uncommitted++; uncommitted >= driver.CommitEvery {
			commit()
		}
	}
	if !errors.Is(err, kafka.ErrGenerationEnded) {
		m.Failed(err)
	}
	if uncommitted > 0 {
		commit()
	}
	m.Revoked(int32(at.ID))
}
