// Package driver is what the drivers of Go families share: see ../README.md.
package driver

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"
)

const (
	// limit ends a request before the matrix gives up on the driver.
	limit           = 50 * time.Second
	defaultMaxBytes = 16 << 20
)

// Unsupported is the error of what a library has no call for.
type Unsupported string

func (why Unsupported) Error() string { return string(why) }

// Family is a library. Offsets are -1 where there is none, or none is told.
type Family interface {
	Hello() Hello
	Produce(ctx context.Context, p Produce, records []Record) (offsets []int64, err error)
	// Open begins to read; the client behind it is kept.
	Open(ctx context.Context, at Place, offset int64, maxBytes int32) (Reader, error)
	Offsets(ctx context.Context, at Place) (earliest, latest int64, err error)
	OffsetForTime(ctx context.Context, at Place, timestamp int64) (int64, error)
	CreateTopic(ctx context.Context, topic string, partitions int32, configs map[string]string) error
	Partitions(ctx context.Context, topic string) (int, error)
	GrowTopic(ctx context.Context, topic string, count int) error
	AlterConfig(ctx context.Context, topic, key, value string) error
	DescribeConfig(ctx context.Context, topic, key string) (*string, error)
	DeleteTopic(ctx context.Context, topic string) error
	// Join begins to be a member of a group.
	Join(m *Membership) (Leave, error)
	// Code is Kafka's code of an error, if it is one of Kafka's.
	Code(err error) (int, bool)
}

// Reader reads a partition.
type Reader interface {
	// Next waits for one record and more.
	Next(ctx context.Context) ([]Seen, error)
	Close()
}

// Hello is the reply to `hello`.
type Hello struct {
	Family  string
	Library string
	Codecs  []string
	// By the name of a case.
	CannotRead map[string]string
	// The assignors of a member of a group.
	Groups []string
	// Its members cannot share a group with those of other families.
	Apart bool
}

// Place is a partition.
type Place struct {
	Topic     string
	Partition int32
}

// Options are those of a producer; each has its own.
type Options struct {
	Codec           string
	Acks            int16
	Idempotent      bool
	Batch           bool
	MaxMessageBytes int32 `json:"max_message_bytes"`
}

// Produce says where and how to produce.
type Produce struct {
	Place
	Options
}

// Record is one to write.
type Record struct {
	Key, Value Bytes
	Headers    []Header
	Timestamp  *int64
}

// Time is the record's timestamp, or now.
func (r Record) Time() time.Time {
	if r.Timestamp == nil {
		return time.Now()
	}
	return time.UnixMilli(*r.Timestamp)
}

// Header is one of a record.
type Header struct {
	Name  string
	Value Bytes
}

// UnmarshalJSON reads [NAME, BYTES].
func (h *Header) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&h.Name, &h.Value})
}

// Bytes are nil for null.
type Bytes []byte

// UnmarshalJSON reads BYTES of the README.
func (b *Bytes) UnmarshalJSON(text []byte) error {
	var told *struct {
		Text       *string
		Size, Seed int
	}
	if err := json.Unmarshal(text, &told); err != nil || told == nil {
		return err
	}
	if told.Text != nil {
		*b = Bytes(*told.Text)
		return nil
	}
	*b = make(Bytes, told.Size)
	for i := range *b {
		(*b)[i] = byte(i*31 + (i>>8)*17 + told.Seed*7)
	}
	return nil
}

// Seen is a record that was read.
type Seen struct {
	Offset        int64    `json:"offset"`
	Timestamp     int64    `json:"timestamp"`
	TimestampType *int8    `json:"timestamp_type,omitempty"`
	Key           *digest  `json:"key"`
	Value         *digest  `json:"value"`
	Headers       [][2]any `json:"headers"`
}

type digest struct {
	Size   int    `json:"size"`
	Sha256 string `json:"sha256"`
}

func digested(data []byte) *digest {
	if data == nil {
		return nil
	}
	sum := sha256.Sum256(data)
	return &digest{len(data), hex.EncodeToString(sum[:])}
}

// See makes a record for a reply; headers are added to it.
func See(offset int64, timestamp time.Time, key, value []byte) Seen {
	return Seen{
		Offset:    offset,
		Timestamp: timestamp.UnixMilli(),
		Key:       digested(key),
		Value:     digested(value),
		Headers:   [][2]any{},
	}
}

// AddHeader adds a header that was read.
func (s *Seen) AddHeader(name string, value []byte) {
	s.Headers = append(s.Headers, [2]any{name, digested(value)})
}

// First is the first error, if there is one.
func First(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Version is that of a module in this program.
func Version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return module + " " + dependency.Version
		}
	}
	return module
}

type request struct {
	Op string
	Produce
	Records    []Record
	Offset     int64
	Count      int
	MaxBytes   int32 `json:"max_bytes"`
	TimeoutMs  int64 `json:"timeout_ms"`
	Timestamp  int64
	Partitions int32
	Configs    map[string]string
	Key, Value string

	Group, Assignor  string
	SessionTimeoutMs int64 `json:"session_timeout_ms"`
}

type reply map[string]any

type driver struct {
	family  Family
	replies *json.Encoder
	group   *group
}

// Run answers what comes on standard input until that ends.
func Run(start func(bootstrap string) (Family, error)) {
	d := driver{replies: json.NewEncoder(os.Stdout), group: &group{}}
	os.Stdout = os.Stderr
	var err error
	if d.family, err = start(os.Args[1]); err != nil {
		panic(err)
	}
	requests := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var r request
		if err := requests.Decode(&r); err == io.EOF {
			os.Exit(0)
		} else if err != nil {
			panic(err)
		}
		d.answer(r)
	}
}

func (d driver) answer(r request) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	fields, err := d.do(ctx, r)
	var unsupported Unsupported
	switch {
	case errors.As(err, &unsupported):
		d.reply(reply{"unsupported": unsupported})
	case err != nil:
		d.reply(d.add(err, reply{"error": err.Error()}))
	default:
		d.reply(fields)
	}
}

func (d driver) reply(fields reply) {
	if _, failed := fields["error"]; !failed && fields["unsupported"] == nil {
		fields["ok"] = true
	}
	if err := d.replies.Encode(fields); err != nil {
		panic(err)
	}
}

// add tells the code or the name of an error.
func (d driver) add(err error, fields reply) reply {
	if code, ok := d.family.Code(err); ok {
		fields["kafka_error"] = code
		return fields
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		fields["client_error"] = fmt.Sprintf("%T", inner)
	}
	return fields
}

func (d driver) do(ctx context.Context, r request) (reply, error) {
	switch r.Op {
	case "hello":
		hello := d.family.Hello()
		return reply{
			"family":      hello.Family,
			"library":     hello.Library,
			"codecs":      hello.Codecs,
			"reads":       true,
			"cannot_read": hello.CannotRead,
			"groups":      hello.Groups,
			"mixes":       !hello.Apart,
		}, nil
	case "produce":
		offsets, err := d.family.Produce(ctx, r.Produce, r.Records)
		told := make([]*int64, len(offsets))
		for i := range offsets {
			told[i] = known(offsets[i])
		}
		return reply{"offsets": told}, err
	case "fetch":
		return d.fetch(ctx, r)
	case "read_until_error":
		return d.readUntilError(ctx, r)
	case "offsets":
		earliest, latest, err := d.family.Offsets(ctx, r.Place)
		return reply{"earliest": earliest, "latest": latest}, err
	case "offset_for_time":
		offset, err := d.family.OffsetForTime(ctx, r.Place, r.Timestamp)
		return reply{"offset": known(offset)}, err
	case "create_topic":
		return reply{}, d.family.CreateTopic(ctx, r.Topic, r.Partitions, r.Configs)
	case "partitions":
		count, err := d.family.Partitions(ctx, r.Topic)
		return reply{"count": count}, err
	case "grow_topic":
		return reply{}, d.family.GrowTopic(ctx, r.Topic, r.Count)
	case "alter_config":
		return reply{}, d.family.AlterConfig(ctx, r.Topic, r.Key, r.Value)
	case "describe_config":
		value, err := d.family.DescribeConfig(ctx, r.Topic, r.Key)
		return reply{"value": value}, err
	case "delete_topic":
		return reply{}, d.family.DeleteTopic(ctx, r.Topic)
	case "join_group":
		return reply{}, d.group.join(d.family, r)
	case "poll_group":
		return d.group.poll(r.timeout())
	case "leave_group":
		return d.group.end(ctx)
	}
	return nil, fmt.Errorf("unknown request %q", r.Op)
}

func known(offset int64) *int64 {
	if offset < 0 {
		return nil
	}
	return &offset
}

func (d driver) fetch(ctx context.Context, r request) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	if r.MaxBytes == 0 {
		r.MaxBytes = defaultMaxBytes
	}
	reader, err := d.family.Open(ctx, r.Place, r.Offset, r.MaxBytes)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var records []Seen
	for len(records) < r.Count {
		more, err := reader.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("%d of %d records came, then: %w", len(records), r.Count, err)
		}
		records = append(records, more...)
	}
	return reply{"records": records[:r.Count]}, nil
}

func (d driver) readUntilError(ctx context.Context, r request) (reply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timeout := time.AfterFunc(r.timeout(), cancel)
	reader, err := d.family.Open(ctx, r.Place, r.Offset, defaultMaxBytes)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	count := 0
	for {
		more, err := reader.Next(ctx)
		if ctx.Err() != nil {
			return reply{"records": count, "ended": "timeout"}, nil
		}
		if err != nil {
			return d.add(err, reply{"records": count}), nil
		}
		if count == 0 {
			timeout.Reset(r.timeout())
			d.reply(reply{"reading": true})
		}
		count += len(more)
	}
}

func (r request) timeout() time.Duration {
	return time.Duration(r.TimeoutMs) * time.Millisecond
}
