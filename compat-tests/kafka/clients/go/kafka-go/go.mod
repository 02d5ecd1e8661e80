module ottla/kafka-go

go 1.24

require (
	github.com/segmentio/kafka-go v0.4.51
	ottla/driver v0.0.0
)

require (
	github.com/klauspost/compress v1.15.9 // indirect
	// Older ones misjudge the checksums of blocks, which aiokafka writes.
	github.com/pierrec/lz4/v4 v4.1.33 // indirect
)

replace ottla/driver => ../
