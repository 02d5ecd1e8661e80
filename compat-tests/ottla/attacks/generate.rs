//! Requests as Kafka's schemas describe them, each field's place in them, and what a hostile client makes of it.
use bytes::BufMut;
use ottla_schema::schema::{Field, Message, Type, Versions};

/// A whole request that the node answers, and where its fields are.
pub struct Request {
    pub api: String,
    pub key: i16,
    pub version: i16,
    pub bytes: Vec<u8>,
    pub sites: Vec<Site>,
    /// Where the header ends.
    pub body: usize,
    /// It has tagged fields.
    pub flexible: bool,
}

/// The name of what no schema names.
const TAGS: &str = "tagged fields";

/// A field's place.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its name, with those of what holds it.
    pub path: String,
    start: usize,
    /// Where the number ends that stands first.
    head: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Fixed,
    Length {
        form: Form,
        nullable: bool,
    },
    Presence,
    TagCount,
    /// The size of a tagged field that the schema has.
    TagSize,
}

/// How a length is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Int16,
    Int32,
    Compact,
}

impl Form {
    fn put(self, out: &mut Vec<u8>, length: i32) {
        match self {
            Form::Int16 => out.put_i16(length.clamp(-2, i32::from(i16::MAX)) as i16),
            Form::Int32 => out.put_i32(length),
            Form::Compact => put_varint(out, (length as u32).wrapping_add(1)),
        }
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Request {
    pub fn new(message: &Message, version: i16) -> Self {
        let key = message.api_key.expect("a request");
        let flexible = holds(message.flexible_versions, version);
        let mut writer = Writer {
            message,
            version,
            flexible,
            out: Vec::new(),
            sites: Vec::new(),
        };
        writer.header(key);
        let body = writer.out.len();
        writer.structure(&message.fields, "");
        Request {
            api: message.name.trim_end_matches("Request").to_owned(),
            key,
            version,
            bytes: writer.out,
            sites: writer.sites,
            body,
            flexible,
        }
    }

    /// A copy with other bytes in place of some.
    fn with(&self, start: usize, end: usize, bytes: &[u8]) -> Vec<u8> {
        [&self.bytes[..start], bytes, &self.bytes[end..]].concat()
    }

    /// Everything that can be wrong with a field, each by its name: nobody can read these.
    pub fn hostile(&self, site: &Site) -> Vec<(&'static str, Vec<u8>)> {
        let replaced = |bytes: &[u8]| self.with(site.start, site.head, bytes);
        let mut all = vec![("truncated at", self.bytes[..site.start].to_vec())];
        // Either within the first number, or between it and what it counts.
        let inside = match site.kind {
            Kind::Length { .. } => site.head,
            _ => site.start + (site.head - site.start) / 2,
        };
        if inside > site.start && inside < self.bytes.len() {
            all.push(("truncated inside", self.bytes[..inside].to_vec()));
        }
        match site.kind {
            Kind::Fixed => {}
            Kind::Length { form, nullable } => {
                let lengths = [("i32::MAX", i32::MAX), ("-2", -2), ("-1", -1)];
                for (name, length) in lengths.into_iter().filter(|(_, length)| *length != -1 || !nullable) {
                    let mut bytes = Vec::new();
                    form.put(&mut bytes, length);
                    all.push((name, replaced(&bytes)));
                }
            }
            Kind::Presence => all.push(("neither there nor null", replaced(&[2]))),
            Kind::TagCount => {
                all.push(("u32::MAX tags", replaced(b"\xff\xff\xff\xff\x0f")));
                all.push(("a varint of six bytes", replaced(b"\x81\x80\x80\x80\x80\x01")));
                let count = self.bytes[site.start] + 1;
                all.push(("a tag of 4 GiB", replaced(&[count, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f])));
            }
            Kind::TagSize => {
                let size = self.bytes[site.start];
                all.push(("a tag too small", replaced(&[size - 1])));
                all.push(("a tag too large", replaced(&[size + 1])));
                all.push(("a tag of 4 GiB", replaced(b"\xff\xff\xff\xff\x0f")));
            }
        }
        all
    }

    /// With bytes behind its end, which Apache Kafka ignores.
    pub fn trailing(&self) -> Vec<u8> {
        [&self.bytes[..], &[1, 0, 0]].concat()
    }

    /// With another version.
    pub fn in_version(&self, version: i16) -> Vec<u8> {
        self.with(2, 4, &version.to_be_bytes())
    }

    /// With many tagged fields in header and body that nobody knows.
    pub fn tagged(&self, count: u32) -> Vec<u8> {
        let mut tags = Vec::new();
        put_varint(&mut tags, count);
        for tag in 0..count {
            put_varint(&mut tags, 1000 + tag);
            tags.push(0);
        }
        // In place of those of the outermost structure, behind which there is nothing.
        let of_body = self.sites.iter().find(|site| site.path == TAGS).expect("flexible");
        [
            &self.bytes[..self.body - 1],
            &tags[..],
            &self.bytes[self.body..of_body.start],
            &tags[..],
        ]
        .concat()
    }

    /// With a header that can be read and a body of noise.
    pub fn noise(&self, noise: impl Iterator<Item = u8>) -> Vec<u8> {
        self.bytes[..self.body].iter().copied().chain(noise).collect()
    }
}

fn holds(versions: Versions, version: i16) -> bool {
    (versions.min..=versions.max).contains(&version)
}

struct Writer<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    out: Vec<u8>,
    sites: Vec<Site>,
}

impl Writer<'_> {
    fn header(&mut self, key: i16) {
        self.number("header ApiKey", &key.to_be_bytes());
        self.number("header ApiVersion", &self.version.to_be_bytes());
        self.number("header CorrelationId", &[0, 0, 0, 7]);
        // Never a compact one.
        self.length("header ClientId", Form::Int16, true, 7);
        self.out.extend(b"hostile");
        if self.flexible {
            self.tags("header ", &[]);
        }
    }

    fn site(&mut self, path: &str, start: usize, kind: Kind) {
        self.sites.push(Site {
            path: path.to_owned(),
            start,
            head: self.out.len(),
            kind,
        });
    }

    fn number(&mut self, path: &str, bytes: &[u8]) {
        let start = self.out.len();
        self.out.extend(bytes);
        self.site(path, start, Kind::Fixed);
    }

    fn length(&mut self, path: &str, form: Form, nullable: bool, length: i32) {
        let start = self.out.len();
        form.put(&mut self.out, length);
        self.site(path, start, Kind::Length { form, nullable });
    }

    fn structure(&mut self, fields: &[Field], path: &str) {
        let present = fields.iter().filter(|field| holds(field.versions, self.version));
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) =
            present.partition(|field| holds(field.tagged_versions, self.version));
        for field in plain {
            self.field(field, path);
        }
        if self.flexible {
            self.tags(path, &tagged);
        }
    }

    fn tags(&mut self, path: &str, tagged: &[&Field]) {
        let start = self.out.len();
        self.out.push(tagged.len() as u8);
        self.site(&format!("{path}{TAGS}"), start, Kind::TagCount);
        for field in tagged {
            put_varint(&mut self.out, field.tag.expect("tagged"));
            let size_at = self.out.len();
            self.out.push(0);
            self.site(&format!("{path}{} (size)", field.name), size_at, Kind::TagSize);
            self.field(field, path);
            // Small enough for one byte.
            self.out[size_at] = u8::try_from(self.out.len() - size_at - 1)
                .ok()
                .filter(|size| *size < 0x7f)
                .expect("small");
        }
    }

    fn field(&mut self, field: &Field, path: &str) {
        let path = format!("{path}{}", field.name);
        let nullable = holds(field.nullable_versions, self.version);
        self.value(field, &field.ty, nullable, &path);
    }

    fn value(&mut self, field: &Field, ty: &Type, nullable: bool, path: &str) {
        let form = |plain| if self.flexible { Form::Compact } else { plain };
        match ty {
            Type::String => {
                self.length(path, form(Form::Int16), nullable, 1);
                self.out.push(b'x');
            }
            Type::Bytes | Type::Records => {
                self.length(path, form(Form::Int32), nullable, 1);
                self.out.push(7);
            }
            Type::Array(element) => {
                self.length(path, form(Form::Int32), nullable, 1);
                self.value(field, element, false, &format!("{path}[]"));
            }
            Type::Struct(name) => {
                // Only a structure that may be null has a byte before it.
                if nullable {
                    let start = self.out.len();
                    self.out.push(1);
                    self.site(path, start, Kind::Presence);
                }
                let fields = self.message.structure_fields(field, name).expect("a structure");
                self.structure(fields, &format!("{path}."));
            }
            ty => {
                let size = ty.fixed_size().expect("a number");
                let mut bytes = vec![0; size];
                // A produce that wants no answer is closed on every error.
                bytes[size - 1] = u8::from(field.name == "Acks");
                self.number(path, &bytes);
            }
        }
    }
}
