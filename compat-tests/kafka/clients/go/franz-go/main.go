// The driver of franz-go, with kadm.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"ottla/driver"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

var balancers = map[string]kgo.GroupBalancer{
	"range":              kgo.RangeBalancer(),
	"roundrobin":         kgo.RoundRobinBalancer(),
	"sticky":             kgo.StickyBalancer(),
	"cooperative-sticky": kgo.CooperativeStickyBalancer(),
	// Has the broker take its own assignor of this kind.
	"consumer": kgo.StickyBalancer(),
}

type family struct {
	bootstrap string
	producers map[driver.Options]*kgo.Client
	consumers map[int32]*kgo.Client
	admin     *kadm.Client
}

func main() {
	driver.Run(func(bootstrap string) (driver.Family, error) {
		admin, err := kadm.NewOptClient(kgo.SeedBrokers(bootstrap))
		return &family{bootstrap, map[driver.Options]*kgo.Client{}, map[int32]*kgo.Client{}, admin}, err
	})
}

func (f *family) Hello() driver.Hello {
	return driver.Hello{
		Family:  "franz-go",
		Library: driver.Version("github.com/twmb/franz-go"),
		Codecs:  []string{"none", "gzip", "snappy", "lz4", "zstd"},
		Groups:  slices.Sorted(maps.Keys(balancers)),
	}
}

func (f *family) Code(err error) (int, bool) {
	var kafka *kerr.Error
	if !errors.As(err, &kafka) {
		return 0, false
	}
	return int(kafka.Code), true
}

func (f *family) Produce(ctx context.Context, p driver.Produce, records []driver.Record) ([]int64, error) {
	producer, err := f.producer(p.Options)
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, len(records))
	errs := make([]error, len(records))
	for i, record := range records {
		producer.Produce(ctx, toSend(p.Place, record), func(sent *kgo.Record, err error) {
			offsets[i], errs[i] = sent.Offset, err
		})
		if !p.Batch {
			err = producer.Flush(ctx)
		}
	}
	// Whoever does not wait for an acknowledgement learns of no offset.
	return offsets, driver.First(append(errs, err, producer.Flush(ctx))...)
}

func toSend(at driver.Place, record driver.Record) *kgo.Record {
	sent := &kgo.Record{
		Topic:     at.Topic,
		Partition: at.Partition,
		Key:       record.Key,
		Value:     record.Value,
		Timestamp: record.Time(),
	}
	for _, header := range record.Headers {
		sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
	}
	return sent
}

func (f *family) producer(o driver.Options) (*kgo.Client, error) {
	if producer, ok := f.producers[o]; ok {
		return producer, nil
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(f.bootstrap),
		kgo.AllowAutoTopicCreation(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[o.Codec]),
		kgo.RequiredAcks(map[int16]kgo.Acks{0: kgo.NoAck(), 1: kgo.LeaderAck(), -1: kgo.AllISRAcks()}[o.Acks]),
	}
	if !o.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	if o.Batch {
		// The flush after the last record ends the wait.
		options = append(options, kgo.ProducerLinger(10*time.Second))
	}
	if o.MaxMessageBytes > 0 {
		options = append(options, kgo.ProducerBatchMaxBytes(o.MaxMessageBytes))
	}
	producer, err := kgo.NewClient(options...)
	f.producers[o] = producer
	return producer, err
}

type reader struct {
	client *kgo.Client
	topic  string
}

func (f *family) Open(_ context.Context, at driver.Place, offset int64, maxBytes int32) (driver.Reader, error) {
	consumer, ok := f.consumers[maxBytes]
	if !ok {
		var err error
		if consumer, err = kgo.NewClient(
			kgo.SeedBrokers(f.bootstrap),
			kgo.ConsumeResetOffset(kgo.NoResetOffset()),
			kgo.FetchMaxBytes(maxBytes),
			kgo.FetchMaxPartitionBytes(maxBytes),
		); err != nil {
			return nil, err
		}
		f.consumers[maxBytes] = consumer
	}
	consumer.AddConsumePartitions(map[string]map[int32]kgo.Offset{at.Topic: {at.Partition: kgo.NewOffset().At(offset)}})
	return reader{consumer, at.Topic}, nil
}

func (r reader) Next(ctx context.Context) ([]driver.Seen, error) {
	fetches := r.client.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		return nil, err
	}
	var records []driver.Seen
	fetches.EachRecord(func(record *kgo.Record) {
		seen := driver.See(record.Offset, record.Timestamp, record.Key, record.Value)
		kind := record.Attrs.TimestampType()
		seen.TimestampType = &kind
		for _, header := range record.Headers {
			seen.AddHeader(header.Key, header.Value)
		}
		records = append(records, seen)
	})
	return records, nil
}

func (r reader) Close() {
	r.client.PurgeTopicsFromConsuming(r.topic)
}

func (f *family) Offsets(ctx context.Context, at driver.Place) (int64, int64, error) {
	earliest, err := listed(f.admin.ListStartOffsets(ctx, at.Topic))(at)
	if err != nil {
		return 0, 0, err
	}
	latest, err := listed(f.admin.ListEndOffsets(ctx, at.Topic))(at)
	return earliest.Offset, latest.Offset, err
}

func (f *family) OffsetForTime(ctx context.Context, at driver.Place, timestamp int64) (int64, error) {
	found, err := listed(f.admin.ListOffsetsAfterMilli(ctx, timestamp, at.Topic))(at)
	if found.Timestamp < 0 {
		// kadm gives the end of the partition for what is not found, without a time.
		return -1, err
	}
	return found.Offset, err
}

func listed(all kadm.ListedOffsets, err error) func(driver.Place) (kadm.ListedOffset, error) {
	return func(at driver.Place) (kadm.ListedOffset, error) {
		offset, _ := all.Lookup(at.Topic, at.Partition)
		return offset, driver.First(err, all.Error())
	}
}

func (f *family) CreateTopic(ctx context.Context, topic string, partitions int32, configs map[string]string) error {
	values := map[string]*string{}
	for key, value := range configs {
		values[key] = &value
	}
	_, err := f.admin.CreateTopic(ctx, partitions, 1, values, topic)
	return err
}

func (f *family) Partitions(ctx context.Context, topic string) (int, error) {
	topics, err := f.admin.ListTopics(ctx, topic)
	return len(topics[topic].Partitions), driver.First(err, topics[topic].Err)
}

func (f *family) GrowTopic(ctx context.Context, topic string, count int) error {
	grown, err := f.admin.UpdatePartitions(ctx, count, topic)
	return driver.First(err, grown.Error())
}

func (f *family) AlterConfig(ctx context.Context, topic, key, value string) error {
	altered, err := f.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
	if err != nil {
		return err
	}
	one, err := altered.On(topic, nil)
	return driver.First(err, one.Err)
}

func (f *family) DescribeConfig(ctx context.Context, topic, key string) (*string, error) {
	described, err := f.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	all, err := described.On(topic, nil)
	if err = driver.First(err, all.Err); err != nil {
		return nil, err
	}
	for _, config := range all.Configs {
		if config.Key == key {
			return config.Value, nil
		}
	}
	return nil, fmt.Errorf("%s has no %s", topic, key)
}

func (f *family) DeleteTopic(ctx context.Context, topic string) error {
	_, err := f.admin.DeleteTopic(ctx, topic)
	return err
}

func (f *family) Join(m *driver.Membership) (driver.Leave, error) {
	commit := func(client *kgo.Client) error {
		err := client.CommitUncommittedOffsets(context.Background())
		m.Failed(err)
		return err
	}
	lost := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		m.Revoked(partitions[m.Topic]...)
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(f.bootstrap),
		kgo.ConsumerGroup(m.Group),
		kgo.ConsumeTopics(m.Topic),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(20 * time.Millisecond),
		kgo.DisableAutoCommit(),
		// What was polled is processed before partitions are given up.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.Assigned(partitions[m.Topic]...)
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
			_ = commit(client)
			lost(ctx, client, partitions)
		}),
		kgo.OnPartitionsLost(lost),
		kgo.Balancers(balancers[m.Assignor]),
	}
	if m.Assignor == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	} else {
		options = append(options, kgo.SessionTimeout(m.Session), kgo.HeartbeatInterval(m.Heartbeat()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	polling, stop := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		uncommitted := 0
		for polling.Err() == nil {
			fetches := client.PollRecords(polling, driver.CommitEvery)
			fetches.EachRecord(func(record *kgo.Record) { m.Processed(record.Partition, record.Offset) })
			for _, fetch := range fetches.Errors() {
				m.Failed(fetch.Err)
			}
			uncommitted += fetches.NumRecords()
			if uncommitted >= driver.CommitEvery && commit(client) == nil {
				uncommitted = 0
			}
			client.AllowRebalance()
		}
	}()
	return func(ctx context.Context) error {
		stop()
		<-over
		_ = commit(client)
		err := client.LeaveGroupContext(ctx)
		client.Close()
		return err
	}, nil
}
