//! kcat, on Debian's librdkafka.
use ottla_compat_tests::records::Codec;
use ottla_compat_tests::scenario::{Case, Session};

pub const CASES: &[Case] = &[
    Case::shell(
        "kcat-metadata",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2",
            "until partition.0 kcat -b $B -L -t $T",
            "kcat -b $B -L -J -t $T",
            // Unlike all topics, one topic is created by asking for it.
            "until partition.0 kcat -b $B -L -t $T-made-by-asking -X allow.auto.create.topics=true",
        ],
    ),
    Case::shell(
        "kcat-produce-and-consume",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 1",
            "until partition.0 kcat -b $B -L -t $T",
            "kcat -b $B -t $T -P -K: -H h=1 -H empty= -X acks=all\nkey:value\n:empty key\nother:\n",
            "kcat -b $B -t $T -P -K: -Z -X acks=1\nkey:\n",
            "kcat -b $B -t $T -P -X acks=0\nfire and forget\n",
            "until forget kcat -b $B -t $T -C -e -q -o beginning -f %o|%k|%s|%S|%h|%p\\n",
            "kcat -b $B -t $T -C -e -q -o 2 -f %o|%s\\n",
            "kcat -b $B -t $T -C -e -q -o -1 -f %o|%s\\n",
            "kcat -b $B -t $T -C -e -q -o 1 -c 1 -f %o|%s\\n",
            "kcat -b $B -t $T -C -e -q -o beginning -J -c 1 -X check.crcs=true",
        ],
    ),
    Case::shell(
        "kcat-query",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2",
            "until partition.0 kcat -b $B -L -t $T",
            "kcat -b $B -t $T -p 1 -P\n1\n2\n",
            "kcat -b $B -Q -t $T:0:-1 -t $T:1:-1",
            "kcat -b $B -Q -t $T:1:-2",
            "kcat -b $B -Q -t $T:1:1000",
            "kcat -b $B -Q -t $T:1:99999999999999",
        ],
    ),
    Case::shell(
        "kcat-idempotent",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 1",
            "until partition.0 kcat -b $B -L -t $T",
            "kcat -b $B -t $T -P -X enable.idempotence=true\n1\n2\n3\n",
            "kcat -b $B -t $T -C -e -q -o beginning -f %o|%s\\n",
        ],
    ),
    Case::code("kcat-codecs", codecs),
];

fn codecs(s: &mut Session) {
    let node = s.node();
    let value = "compressible ".repeat(100);
    for codec in Codec::ALL {
        let topic = format!("$T-{}", codec.name());
        let z = if codec == Codec::None {
            String::new()
        } else {
            format!("-z {}", codec.name())
        };
        s.shell(
            node,
            &[
                &format!("kafka-topics --bootstrap-server $B --create --topic {topic}"),
                &format!("until partition.0 kcat -b $B -L -t {topic}"),
                &format!("kcat -b $B -t {topic} -P {z} -X linger.ms=50\n{value}\n{value}\n{value}\n"),
                &format!("kcat -b $B -t {topic} -C -e -q -o beginning -X check.crcs=true -f %o|%s\\n"),
                &format!("kcat -b $B -t {topic} -C -e -q -o 1 -c 1 -f %o|%S\\n"),
            ],
        );
    }
}
