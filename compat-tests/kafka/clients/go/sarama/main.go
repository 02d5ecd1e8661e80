// The driver of IBM's sarama.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"ottla/driver"
)

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

var strategies = map[string]func() sarama.BalanceStrategy{
	"range":              sarama.NewBalanceStrategyRange,
	"roundrobin":         sarama.NewBalanceStrategyRoundRobin,
	"sticky":             sarama.NewBalanceStrategySticky,
	"cooperative-sticky": sarama.NewBalanceStrategyCooperativeSticky,
}

type family struct {
	brokers   []string
	producers map[driver.Options]sarama.SyncProducer
	consumers map[int32]sarama.Consumer
	client    sarama.Client
	admin     sarama.ClusterAdmin
}

func main() {
	driver.Run(func(bootstrap string) (driver.Family, error) {
		f := &family{
			brokers:   []string{bootstrap},
			producers: map[driver.Options]sarama.SyncProducer{},
			consumers: map[int32]sarama.Consumer{},
		}
		var err error
		if f.client, err = sarama.NewClient(f.brokers, config()); err != nil {
			return nil, err
		}
		f.admin, err = sarama.NewClusterAdminFromClient(f.client)
		return f, err
	})
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	return config
}

func (f *family) Hello() driver.Hello {
	return driver.Hello{
		Family:  "sarama",
		Library: driver.Version("github.com/IBM/sarama"),
		Codecs:  []string{"none", "gzip", "snappy", "lz4", "zstd"},
		Groups:  slices.Sorted(maps.Keys(strategies)),
	}
}

func (f *family) Code(err error) (int, bool) {
	var produced sarama.ProducerErrors
	if errors.As(err, &produced) {
		err = produced[0].Err
	}
	var kafka sarama.KError
	return int(kafka), errors.As(err, &kafka)
}

func (f *family) Produce(_ context.Context, p driver.Produce, records []driver.Record) ([]int64, error) {
	producer, err := f.producer(p.Options)
	if err != nil {
		return nil, err
	}
	var messages []*sarama.ProducerMessage
	for _, record := range records {
		messages = append(messages, message(p.Place, record))
	}
	if p.Batch {
		err = producer.SendMessages(messages)
	}
	offsets := make([]int64, len(records))
	for i := range messages {
		if !p.Batch && err == nil {
			_, _, err = producer.SendMessage(messages[i])
		}
		offsets[i] = messages[i].Offset
		if p.Acks == 0 {
			offsets[i] = -1
		}
	}
	return offsets, err
}

func message(at driver.Place, record driver.Record) *sarama.ProducerMessage {
	// A nil encoder is null, and so is one of nil bytes.
	message := &sarama.ProducerMessage{
		Topic:     at.Topic,
		Partition: at.Partition,
		Key:       sarama.ByteEncoder(record.Key),
		Value:     sarama.ByteEncoder(record.Value),
		Timestamp: record.Time(),
	}
	for _, header := range record.Headers {
		message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
	}
	return message
}

func (f *family) producer(o driver.Options) (sarama.SyncProducer, error) {
	if producer, ok := f.producers[o]; ok {
		return producer, nil
	}
	config := config()
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Compression = codecs[o.Codec]
	config.Producer.RequiredAcks = sarama.RequiredAcks(o.Acks)
	if o.Idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	if o.Batch {
		config.Producer.Flush.Frequency = 100 * time.Millisecond
		config.Producer.Flush.Bytes = 4 << 20
	}
	if o.MaxMessageBytes > 0 {
		config.Producer.MaxMessageBytes = int(o.MaxMessageBytes)
	}
	producer, err := sarama.NewSyncProducer(f.brokers, config)
	if err == nil {
		f.producers[o] = producer
	}
	return producer, err
}

type reader struct {
	partition sarama.PartitionConsumer
}

func (f *family) Open(_ context.Context, at driver.Place, offset int64, maxBytes int32) (driver.Reader, error) {
	consumer, ok := f.consumers[maxBytes]
	if !ok {
		config := config()
		config.Consumer.Return.Errors = true
		config.Consumer.Fetch.Default = maxBytes
		// A fetch that waits at the broker holds up the next one, and so does the end of a partition's consumer.
		config.Consumer.MaxWaitTime = 20 * time.Millisecond
		config.Consumer.Retry.Backoff = 20 * time.Millisecond
		var err error
		if consumer, err = sarama.NewConsumer(f.brokers, config); err != nil {
			return nil, err
		}
		f.consumers[maxBytes] = consumer
	}
	partition, err := consumer.ConsumePartition(at.Topic, at.Partition, offset)
	return reader{partition}, err
}

func (r reader) Next(ctx context.Context) ([]driver.Seen, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case err := <-r.partition.Errors():
		return nil, err
	case message := <-r.partition.Messages():
		seen := driver.See(message.Offset, message.Timestamp, message.Key, message.Value)
		for _, header := range message.Headers {
			seen.AddHeader(string(header.Key), header.Value)
		}
		return []driver.Seen{seen}, nil
	}
}

func (r reader) Close() {
	// What is under way is of no use any more.
	_ = r.partition.Close()
}

func (f *family) Offsets(_ context.Context, at driver.Place) (int64, int64, error) {
	earliest, err := f.client.GetOffset(at.Topic, at.Partition, sarama.OffsetOldest)
	if err != nil {
		return 0, 0, err
	}
	latest, err := f.client.GetOffset(at.Topic, at.Partition, sarama.OffsetNewest)
	return earliest, latest, err
}

func (f *family) OffsetForTime(_ context.Context, at driver.Place, timestamp int64) (int64, error) {
	return f.client.GetOffset(at.Topic, at.Partition, timestamp)
}

func (f *family) CreateTopic(_ context.Context, topic string, partitions int32, configs map[string]string) error {
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: map[string]*string{}}
	for key, value := range configs {
		detail.ConfigEntries[key] = &value
	}
	return f.admin.CreateTopic(topic, detail, false)
}

func (f *family) Partitions(_ context.Context, topic string) (int, error) {
	topics, err := f.admin.DescribeTopics([]string{topic})
	if err != nil {
		return 0, err
	}
	if topics[0].Err != sarama.ErrNoError {
		return 0, topics[0].Err
	}
	return len(topics[0].Partitions), nil
}

func (f *family) GrowTopic(_ context.Context, topic string, count int) error {
	return f.admin.CreatePartitions(topic, int32(count), nil, false)
}

func (f *family) AlterConfig(_ context.Context, topic, key, value string) error {
	entry := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	entries := map[string]sarama.IncrementalAlterConfigsEntry{key: entry}
	return f.admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
}

func (f *family) DescribeConfig(_ context.Context, topic, key string) (*string, error) {
	resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{key}}
	entries, err := f.admin.DescribeConfig(resource)
	for _, entry := range entries {
		if entry.Name == key {
			return &entry.Value, err
		}
	}
	return nil, driver.First(err, fmt.Errorf("%s has no %s", topic, key))
}

func (f *family) DeleteTopic(_ context.Context, topic string) error {
	return f.admin.DeleteTopic(topic)
}

func (f *family) Join(m *driver.Membership) (driver.Leave, error) {
	config := config()
	config.Consumer.Return.Errors = true
	config.Consumer.MaxWaitTime = 20 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = m.Session
	config.Consumer.Group.Heartbeat.Interval = m.Heartbeat()
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategies[m.Assignor]()}
	group, err := sarama.NewConsumerGroup(f.brokers, m.Group, config)
	if err != nil {
		return nil, err
	}
	consuming, stop := context.WithCancel(context.Background())
	var consumes, tells sync.WaitGroup
	consumes.Go(func() {
		for consuming.Err() == nil {
			m.Failed(group.Consume(consuming, []string{m.Topic}, claims{m}))
		}
	})
	tells.Go(func() {
		for err := range group.Errors() {
			m.Failed(err)
		}
	})
	return func(context.Context) error {
		stop()
		consumes.Wait()
		err := group.Close()
		tells.Wait()
		return err
	}, nil
}

// claims process a partition each, for as long as the member has it.
type claims struct {
	m *driver.Membership
}

func (claims) Setup(sarama.ConsumerGroupSession) error { return nil }

func (claims) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (c claims) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	c.m.Assigned(claim.Partition())
	for uncommitted := 1; ; uncommitted++ {
		message := next(session, claim)
		if message == nil {
			break
		}
		c.m.Processed(message.Partition, message.Offset)
		session.MarkMessage(message, "")
		if uncommitted%driver.CommitEvery == 0 {
			session.Commit()
		}
	}
	session.Commit()
	c.m.Revoked(claim.Partition())
	return nil
}

// next is nil when the claim is over: a session's end tells it, or, if the session goes on, that of the messages.
func next(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) *sarama.ConsumerMessage {
	select {
	case <-session.Context().Done():
		return nil
	case message := <-claim.Messages():
		return message
	}
}
