//! Rust for one schema: its structures with `read`, `write` and, where a version may not hold a value, `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::schema::{BadSchema, Field, Message, Structure, Type, Versions, snake_case};

/// What differs between the records in domain and the messages on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `String`; no newtypes; all versions are flexible, so that writing cannot fail.
    Record,
    /// The same, but not all versions are flexible: a string may be too long for one.
    CoordinatorRecord,
    /// kafka-protocol's `StrBytes`, `TopicName`, `GroupId` and `BrokerId`, and its `with_` builders.
    Wire,
}

type Result<T> = std::result::Result<T, BadSchema>;

/// Emits the structures of `message`.
pub struct Emitter<'a> {
    message: &'a Message,
    style: Style,
    /// Rust's name of each structure.
    names: BTreeMap<String, String>,
    structures: Vec<Structure>,
    /// Structures that have values which not every version holds.
    checked: BTreeSet<String>,
}

impl<'a> Emitter<'a> {
    /// `taken` are structure names of other messages in the same module.
    pub fn new(message: &'a Message, style: Style, taken: &BTreeSet<String>) -> Result<Self> {
        let structures = message.structures()?;
        let rust_name = |name: &String| {
            let collides = *name != message.name && taken.contains(name);
            if collides {
                format!("{}{name}", message.name)
            } else {
                name.clone()
            }
        };
        let names = structures
            .iter()
            .map(|s| (s.name.clone(), rust_name(&s.name)))
            .collect();
        let mut emitter = Emitter {
            message,
            style,
            names,
            structures,
            checked: BTreeSet::new(),
        };
        if style == Style::Record && !message.flexible_versions.covers(message.valid_versions) {
            return Err(BadSchema(format!(
                "{}: records with versions that are not flexible",
                message.name
            )));
        }
        // Innermost first, so that a structure that holds a checked one is known to be checked.
        for structure in emitter.structures.iter().rev() {
            let inner = |field: &Field| field.ty.structure().is_some_and(|name| emitter.checked.contains(name));
            if structure
                .fields
                .iter()
                .any(|f| inner(f) || emitter.own_check(structure, f).is_some())
            {
                emitter.checked.insert(structure.name.clone());
            }
        }
        Ok(emitter)
    }

    pub fn structures(&self) -> &[Structure] {
        &self.structures
    }

    pub fn rust_name(&self, name: &str) -> &str {
        self.names.get(name).map_or("", String::as_str)
    }

    pub fn is_checked(&self) -> bool {
        self.checked.contains(&self.message.name)
    }

    fn wire(&self) -> bool {
        self.style == Style::Wire
    }

    fn is_fallible(&self) -> bool {
        self.style != Style::Record
    }

    /// Records without any flexible version have no tagged fields; messages keep kafka-protocol's shape.
    pub fn has_tagged_fields(&self, structure: &Structure) -> bool {
        self.wire() || !self.message.flexible_versions.intersect(structure.versions).is_empty()
    }

    /// The versions in which `structure` has tagged fields, as an expression; none when all do.
    pub fn flexible(&self, structure: &Structure) -> Option<String> {
        condition(self.message.flexible_versions, structure.versions)
    }

    /// Structures with their codecs; `doc` names what the message is.
    pub fn emit(&self, doc: &str) -> Result<String> {
        let mut out = String::new();
        for structure in &self.structures {
            let doc = if structure.name == self.message.name {
                doc.to_owned()
            } else {
                format!("`{}` of [`{}`].", structure.name, self.rust_name(&self.message.name))
            };
            self.emit_structure(&mut out, structure, &doc)?;
        }
        Ok(out)
    }

    fn emit_structure(&self, out: &mut String, structure: &Structure, doc: &str) -> Result<()> {
        let name = self.rust_name(&structure.name);
        let defaults = structure
            .fields
            .iter()
            .map(|f| self.default_value(f))
            .collect::<Result<Vec<_>>>()?;
        let derived = structure
            .fields
            .iter()
            .zip(&defaults)
            .all(|(field, default)| self.is_rust_default(field, default));
        let derive_default = if derived { "Default, " } else { "" };
        let fields = structure
            .fields
            .iter()
            .map(|f| (field_name(f), self.rust_type(f)))
            .collect::<Vec<_>>();
        writeln!(
            out,
            "/// {doc}\n#[derive(Clone, Debug, {derive_default}PartialEq)]\npub struct {name} {{"
        )
        .ok();
        for (field, ty) in &fields {
            writeln!(out, "pub {field}: {ty},").ok();
        }
        if self.has_tagged_fields(structure) {
            writeln!(out, "pub unknown_tagged_fields: UnknownTaggedFields,").ok();
        }
        writeln!(out, "}}\n").ok();

        writeln!(out, "impl {name} {{").ok();
        if self.wire() {
            for (field, ty) in &fields {
                writeln!(out, "/// Sets `{field}`.").ok();
                writeln!(
                    out,
                    "pub fn with_{field}(mut self, {field}: {ty}) -> Self {{ self.{field} = {field}; self }}\n"
                )
                .ok();
            }
        }
        self.emit_read(out, structure, &defaults)?;
        if self.checked.contains(&structure.name) {
            self.emit_check(out, structure);
        }
        self.emit_write(out, structure)?;
        writeln!(out, "}}\n").ok();

        if !derived {
            writeln!(out, "impl Default for {name} {{ fn default() -> Self {{ {name} {{").ok();
            for ((field, _), default) in fields.iter().zip(&defaults) {
                writeln!(out, "{field}: {default},").ok();
            }
            if self.has_tagged_fields(structure) {
                writeln!(out, "unknown_tagged_fields: UnknownTaggedFields::new(),").ok();
            }
            writeln!(out, "}} }} }}\n").ok();
        }
        Ok(())
    }

    fn emit_read(&self, out: &mut String, structure: &Structure, defaults: &[String]) -> Result<()> {
        let mut body = String::new();
        let mut tagged = String::new();
        for (field, default) in structure.fields.iter().zip(defaults) {
            let name = field_name(field);
            if self.is_tagged(structure, field) {
                let tag = field.tag.ok_or_else(|| self.bad(field, "has no tag"))?;
                let guard = condition(field.tagged_versions, structure.versions).map(|c| format!(" if {c}"));
                let read = self.read(field, structure.versions, "field")?;
                writeln!(body, "let mut {name} = {default};").ok();
                writeln!(tagged, "{tag}{} => {name} = {read},", guard.unwrap_or_default()).ok();
                continue;
            }
            let read = self.read(field, structure.versions, "from")?;
            match condition(field.versions, structure.versions) {
                Some(present) => writeln!(body, "let {name} = if {present} {{ {read} }} else {{ {default} }};").ok(),
                None => writeln!(body, "let {name} = {read};").ok(),
            };
            if let Some(required) = self.sometimes_required(structure, field)? {
                writeln!(
                    body,
                    "if {required} && {name}.is_none() {{ return Err(DecodeError::UnexpectedNull); }}"
                )
                .ok();
            }
        }
        let tags = if tagged.is_empty() {
            "from.tagged_fields(|_, _| Ok(false))?".to_owned()
        } else {
            format!("from.tagged_fields(|tag, field| {{ match tag {{ {tagged} _ => return Ok(false) }} Ok(true) }})?")
        };
        let mut names: String = structure.fields.iter().map(|f| format!("{},", field_name(f))).collect();
        if self.has_tagged_fields(structure) {
            match self.flexible(structure) {
                None => writeln!(body, "let unknown_tagged_fields = {tags};").ok(),
                Some(flexible) => writeln!(
                    body,
                    "let unknown_tagged_fields = if {flexible} {{ {tags} }} else {{ UnknownTaggedFields::new() }};"
                )
                .ok(),
            };
            names.push_str("unknown_tagged_fields");
        }
        let version = if body.contains("schema_version") {
            "schema_version"
        } else {
            "_schema_version"
        };
        writeln!(out, "fn read(from: &mut Reader<'_>, {version}: i16) -> Result<Self> {{").ok();
        writeln!(out, "{body} Ok({} {{ {names} }}) }}\n", self.rust_name(&structure.name)).ok();
        Ok(())
    }

    fn emit_write(&self, out: &mut String, structure: &Structure) -> Result<()> {
        let mut body = String::new();
        let mut tagged = String::new();
        for field in &structure.fields {
            let name = format!("self.{}", field_name(field));
            if self.is_tagged(structure, field) {
                let present = condition(field.tagged_versions, structure.versions).map(|c| format!("{c} && "));
                let tag = field.tag.ok_or_else(|| self.bad(field, "has no tag"))?;
                writeln!(
                    tagged,
                    "if {}{} {{",
                    present.unwrap_or_default(),
                    self.differs(field, &name)?
                )
                .ok();
                writeln!(tagged, "let mut field = BytesMut::new();").ok();
                writeln!(tagged, "{}", self.write(field, structure.versions, &name, "field")?).ok();
                writeln!(tagged, "tagged.push(({tag}, field)); }}").ok();
                continue;
            }
            let write = self.write(field, structure.versions, &name, "out")?;
            match condition(field.versions, structure.versions) {
                Some(present) => writeln!(body, "if {present} {{ {write} }}").ok(),
                None => writeln!(body, "{write}").ok(),
            };
        }
        let tags = if tagged.is_empty() {
            "out.put_tagged_fields(&[], &self.unknown_tagged_fields);".to_owned()
        } else {
            format!(
                "let mut tagged = Vec::new(); {tagged} out.put_tagged_fields(&tagged, &self.unknown_tagged_fields);"
            )
        };
        if self.has_tagged_fields(structure) {
            match self.flexible(structure) {
                None => writeln!(body, "{tags}").ok(),
                Some(flexible) => writeln!(body, "if {flexible} {{ {tags} }}").ok(),
            };
        }
        let version = if body.contains("schema_version") {
            "schema_version"
        } else {
            "_schema_version"
        };
        let (returns, end) = if self.is_fallible() {
            (" -> Result<(), EncodeError>", "Ok(())")
        } else {
            ("", "")
        };
        writeln!(
            out,
            "fn write(&self, {version}: i16, out: &mut BytesMut){returns} {{ {body} {end} }}"
        )
        .ok();
        Ok(())
    }

    /// The condition under which a value cannot be written, with the error to return.
    fn own_check(&self, structure: &Structure, field: &Field) -> Option<String> {
        let name = field_name(field);
        let mut checks = String::new();
        let present = condition(field.versions, structure.versions);
        if let Some(present) = present.as_ref().filter(|_| !field.ignorable) {
            let differs = self.differs(field, &format!("self.{name}")).ok()?;
            writeln!(
                checks,
                "if {} && {differs} {{ return Err(EncodeError::FieldNotInVersion {{ field: {:?}, version: schema_version }}); }}",
                negated(present),
                field.name
            )
            .ok();
        }
        if let Some(required) = self.sometimes_required(structure, field).ok()? {
            writeln!(
                checks,
                "if {required} && self.{name}.is_none() {{ return Err(EncodeError::NullNotInVersion {{ field: {:?}, version: schema_version }}); }}",
                field.name
            )
            .ok();
        }
        (!checks.is_empty()).then_some(checks)
    }

    fn emit_check(&self, out: &mut String, structure: &Structure) {
        writeln!(
            out,
            "fn check(&self, schema_version: i16) -> Result<(), EncodeError> {{"
        )
        .ok();
        for field in &structure.fields {
            out.push_str(&self.own_check(structure, field).unwrap_or_default());
            if field.ty.structure().is_some_and(|name| self.checked.contains(name)) {
                let name = field_name(field);
                match (&field.ty, is_nullable(field)) {
                    (Type::Array(_), true) => writeln!(
                        out,
                        "for item in self.{name}.iter().flatten() {{ item.check(schema_version)?; }}"
                    )
                    .ok(),
                    (Type::Array(_), false) => {
                        writeln!(out, "for item in &self.{name} {{ item.check(schema_version)?; }}").ok()
                    }
                    (_, true) => writeln!(
                        out,
                        "if let Some(item) = &self.{name} {{ item.check(schema_version)?; }}"
                    )
                    .ok(),
                    (_, false) => writeln!(out, "self.{name}.check(schema_version)?;").ok(),
                };
            }
        }
        writeln!(out, "Ok(()) }}\n").ok();
    }

    fn is_tagged(&self, structure: &Structure, field: &Field) -> bool {
        !field.tagged_versions.intersect(structure.versions).is_empty()
    }

    /// Whether a version has a field but no null for it, as an expression, when a field is nullable in some but not all of
    /// its versions.
    fn sometimes_required(&self, structure: &Structure, field: &Field) -> Result<Option<String>> {
        let versions = field.versions.intersect(structure.versions);
        let nullable = field.nullable_versions.intersect(versions);
        if !is_nullable(field) || nullable == versions {
            return Ok(None);
        }
        // Fields became nullable; none stopped to be.
        if nullable.max != versions.max {
            return Err(self.bad(field, "is nullable in older versions only"));
        }
        let required = Versions {
            min: versions.min,
            max: nullable.min - 1,
        };
        Ok(condition(required, structure.versions))
    }

    fn bad(&self, field: &Field, what: &str) -> BadSchema {
        BadSchema(format!("{}: {} {what}", self.message.name, field.name))
    }

    fn rust_type(&self, field: &Field) -> String {
        let ty = self.rust_base_type(field, &field.ty);
        if is_nullable(field) {
            format!("Option<{ty}>")
        } else {
            ty
        }
    }

    fn rust_base_type(&self, field: &Field, ty: &Type) -> String {
        match ty {
            Type::Bool => "bool".to_owned(),
            Type::Int8 => "i8".to_owned(),
            Type::Int16 => "i16".to_owned(),
            Type::Uint16 => "u16".to_owned(),
            Type::Int32 | Type::String if self.newtype(field).is_some() => self.newtype(field).unwrap_or("").to_owned(),
            Type::Int32 => "i32".to_owned(),
            Type::Uint32 => "u32".to_owned(),
            Type::Int64 => "i64".to_owned(),
            Type::Float64 => "f64".to_owned(),
            Type::Uuid => "Uuid".to_owned(),
            Type::String if self.wire() => "StrBytes".to_owned(),
            Type::String => "String".to_owned(),
            Type::Bytes | Type::Records => "Bytes".to_owned(),
            Type::Struct(name) => self.rust_name(name).to_owned(),
            Type::Array(element) => format!("Vec<{}>", self.rust_base_type(field, element)),
        }
    }

    /// kafka-protocol's newtype for an entity.
    fn newtype(&self, field: &Field) -> Option<&'static str> {
        match (self.style, field.entity_type.as_deref()) {
            (Style::Wire, Some("brokerId")) => Some("BrokerId"),
            (Style::Wire, Some("topicName")) => Some("TopicName"),
            (Style::Wire, Some("groupId")) => Some("GroupId"),
            _ => None,
        }
    }

    pub fn default_value(&self, field: &Field) -> Result<String> {
        let text = field.default_text();
        if text.as_deref() == Some("null") {
            return if is_nullable(field) {
                Ok("None".to_owned())
            } else {
                Err(self.bad(field, "is not nullable"))
            };
        }
        let value = match (&field.ty, text.as_deref().filter(|text| !text.is_empty())) {
            (Type::Bool, text) => text.unwrap_or("false").to_owned(),
            (Type::Int8 | Type::Int16 | Type::Uint16 | Type::Int32 | Type::Uint32 | Type::Int64, text) => {
                let number = match text.and_then(|text| text.strip_prefix("0x")) {
                    Some(hex) => i64::from_str_radix(hex, 16)
                        .map_err(|_| self.bad(field, "has a bad default"))?
                        .to_string(),
                    None => text.unwrap_or("0").to_owned(),
                };
                match self.newtype(field) {
                    Some(newtype) => format!("{newtype}({number})"),
                    None => number,
                }
            }
            (Type::Float64, text) => format!("{:?}", text.unwrap_or("0").parse::<f64>().unwrap_or_default()),
            (Type::Uuid, _) => "Uuid::nil()".to_owned(),
            (Type::String, Some(text)) if self.wire() => format!("StrBytes::from_static_str({text:?})"),
            (Type::String, Some(text)) => format!("{text:?}.to_owned()"),
            (ty, None) => match ty {
                Type::Array(_) => "Vec::new()".to_owned(),
                _ => format!("{}::default()", self.rust_base_type(field, ty)),
            },
            (_, Some(_)) => return Err(self.bad(field, "has a default that its type cannot have")),
        };
        Ok(if is_nullable(field) {
            format!("Some({value})")
        } else {
            value
        })
    }

    fn is_rust_default(&self, field: &Field, default: &str) -> bool {
        let zero = ["0", "0.0", "false", "None", "Vec::new()", "Uuid::nil()", "BrokerId(0)"].contains(&default);
        zero || (!is_nullable(field) && default.ends_with("::default()"))
    }

    /// Whether the value at `name` is not the default, as an expression.
    fn differs(&self, field: &Field, name: &str) -> Result<String> {
        let default = self.default_value(field)?;
        Ok(match (&field.ty, default.as_str()) {
            (_, "None") => format!("{name}.is_some()"),
            (_, "false") => name.to_owned(),
            (_, "true") => format!("!{name}"),
            (Type::Array(_), _) if is_nullable(field) => {
                format!("{name}.as_ref().is_none_or(|value| !value.is_empty())")
            }
            (
                Type::Array(_) | Type::String | Type::Bytes,
                "Vec::new()" | "String::default()" | "StrBytes::default()",
            ) => {
                format!("!{name}.is_empty()")
            }
            (Type::Uuid, _) => format!("!{name}.is_nil()"),
            (Type::Bytes, _) => format!("!{name}.is_empty()"),
            _ => format!("{name} != {default}"),
        })
    }

    fn pick(&self, versions: Versions, compact: &str, plain: &str) -> String {
        match condition(self.message.flexible_versions, versions) {
            None => compact.to_owned(),
            Some(_) if self.message.flexible_versions.intersect(versions).is_empty() => plain.to_owned(),
            Some(flexible) => format!("if {flexible} {{ {compact} }} else {{ {plain} }}"),
        }
    }

    fn read(&self, field: &Field, versions: Versions, from: &str) -> Result<String> {
        let versions = field.versions.intersect(versions);
        let null = if is_nullable(field) { "nullable_" } else { "" };
        let calls = |name: &str, args: &str| {
            (
                format!("{from}.compact_{null}{name}({args})?"),
                format!("{from}.{null}{name}({args})?"),
            )
        };
        let convert = |read: &str, to: &str| {
            if is_nullable(field) {
                format!("{read}.map(|value| {})", to.replace("{}", "value"))
            } else {
                to.replace("{}", read)
            }
        };
        Ok(match &field.ty {
            Type::String => {
                let (compact, plain) = calls("string", "");
                let to = self.owned_string(field);
                self.pick(versions, &convert(&compact, &to), &convert(&plain, &to))
            }
            Type::Bytes => {
                let (compact, plain) = calls("bytes", "");
                let to = "Bytes::copy_from_slice({})";
                self.pick(versions, &convert(&compact, to), &convert(&plain, to))
            }
            Type::Array(element) => {
                let element = match element.as_ref() {
                    Type::String => {
                        let read = self.pick(versions, "from.compact_string()?", "from.string()?");
                        format!("|from| Ok({})", self.owned_string(field).replace("{}", &read))
                    }
                    Type::Struct(name) => format!("|from| {}::read(from, schema_version)", self.rust_name(name)),
                    ty => match self.newtype(field) {
                        Some(newtype) => format!(
                            "|from| from.{}().map({newtype})",
                            primitive(ty).ok_or_else(|| self.bad(field, "has unsupported elements"))?
                        ),
                        None => format!(
                            "|from| from.{}()",
                            primitive(ty).ok_or_else(|| self.bad(field, "has unsupported elements"))?
                        ),
                    },
                };
                let (compact, plain) = calls("array", &element);
                self.pick(versions, &compact, &plain)
            }
            Type::Struct(name) if is_nullable(field) => {
                self.check_tagged(field, from)?;
                format!(
                    "if {from}.tagged_presence()? {{ Some({}::read({from}, schema_version)?) }} else {{ None }}",
                    self.rust_name(name)
                )
            }
            Type::Struct(name) => format!("{}::read({from}, schema_version)?", self.rust_name(name)),
            ty => {
                let read = format!(
                    "{from}.{}()?",
                    primitive(ty).ok_or_else(|| self.bad(field, "has an unsupported type"))?
                );
                match self.newtype(field) {
                    Some(newtype) => format!("{newtype}({read})"),
                    None => read,
                }
            }
        })
    }

    /// Without a tag, a byte says whether a structure is there, with one a varint; no schema needs the former yet.
    fn check_tagged(&self, field: &Field, buffer: &str) -> Result<()> {
        if buffer == "field" {
            Ok(())
        } else {
            Err(self.bad(field, "is a structure that may be null and has no tag"))
        }
    }

    fn owned_string(&self, field: &Field) -> String {
        match (self.wire(), self.newtype(field)) {
            (false, _) => "{}.to_owned()".to_owned(),
            (true, None) => "StrBytes::from_string({}.to_owned())".to_owned(),
            (true, Some(newtype)) => format!("{newtype}(StrBytes::from_string({{}}.to_owned()))"),
        }
    }

    fn write(&self, field: &Field, versions: Versions, name: &str, out: &str) -> Result<String> {
        let versions = field.versions.intersect(versions);
        let question = if self.is_fallible() { "?" } else { "" };
        Ok(match &field.ty {
            Type::String => {
                let (null, value) = match (is_nullable(field), self.newtype(field).is_some()) {
                    (true, false) => ("nullable_", format!("{name}.as_deref()")),
                    (true, true) => ("nullable_", format!("{name}.as_ref().map(|value| value.0.as_str())")),
                    (false, false) => ("", format!("&{name}")),
                    (false, true) => ("", format!("&{name}.0")),
                };
                self.pick(
                    versions,
                    &format!("{out}.put_compact_{null}string({value});"),
                    &format!("{out}.put_{null}string({value})?;"),
                )
            }
            Type::Bytes => {
                let (null, value) = if is_nullable(field) {
                    ("nullable_", format!("{name}.as_deref()"))
                } else {
                    ("", format!("&{name}"))
                };
                self.pick(
                    versions,
                    &format!("{out}.put_compact_{null}bytes({value});"),
                    &format!("{out}.put_{null}bytes_field({value});"),
                )
            }
            Type::Array(element) => {
                let (length, items) = if is_nullable(field) {
                    (
                        format!("{name}.as_ref().map(Vec::len)"),
                        format!("{name}.iter().flatten()"),
                    )
                } else {
                    (format!("Some({name}.len())"), format!("&{name}"))
                };
                let length = self.pick(
                    versions,
                    &format!("{out}.put_compact_array_length({length});"),
                    &format!("{out}.put_array_length({length});"),
                );
                let inner = if self.newtype(field).is_some() {
                    "item.0"
                } else {
                    "item"
                };
                let element = match element.as_ref() {
                    Type::String => self.pick(
                        versions,
                        &format!("{out}.put_compact_string({});", inner.replace("item.0", "&item.0")),
                        &format!("{out}.put_string({})?;", inner.replace("item.0", "&item.0")),
                    ),
                    Type::Struct(_) => format!("item.write(schema_version, {}){question};", mutable(out)),
                    ty => {
                        let put = primitive(ty).ok_or_else(|| self.bad(field, "has unsupported elements"))?;
                        let deref = if inner == "item" { "*" } else { "" };
                        format!("{out}.put_{put}({deref}{inner});")
                    }
                };
                format!("{length} for item in {items} {{ {element} }}")
            }
            Type::Struct(_) if is_nullable(field) => {
                self.check_tagged(field, out)?;
                format!(
                    "match &{name} {{ Some(value) => {{ {out}.put_unsigned_varint(1); value.write(schema_version, {}){question}; }} None => {out}.put_unsigned_varint(0) }}",
                    mutable(out)
                )
            }
            Type::Struct(_) => format!("{name}.write(schema_version, {}){question};", mutable(out)),
            ty => {
                let put = primitive(ty).ok_or_else(|| self.bad(field, "has an unsupported type"))?;
                let inner = if self.newtype(field).is_some() { ".0" } else { "" };
                format!("{out}.put_{put}({name}{inner});")
            }
        })
    }
}

/// `out` is a `&mut BytesMut` already; a tagged field's buffer is not.
fn mutable(out: &str) -> &str {
    if out == "field" { "&mut field" } else { out }
}

/// The name of the reader's method, and after `put_` the writer's.
pub fn primitive(ty: &Type) -> Option<&'static str> {
    Some(match ty {
        Type::Bool => "bool",
        Type::Int8 => "i8",
        Type::Int16 => "i16",
        Type::Uint16 => "u16",
        Type::Int32 => "i32",
        Type::Uint32 => "u32",
        Type::Int64 => "i64",
        Type::Float64 => "f64",
        Type::Uuid => "uuid",
        _ => return None,
    })
}

pub fn is_nullable(field: &Field) -> bool {
    !field.nullable_versions.is_empty()
}

pub fn field_name(field: &Field) -> String {
    match snake_case(&field.name).as_str() {
        "type" => "_type".to_owned(),
        "match" => "_match".to_owned(),
        name => name.to_owned(),
    }
}

/// The opposite of what [`condition`] returned.
fn negated(condition: &str) -> String {
    if condition.contains("..=") {
        format!("!{condition}")
    } else {
        condition.replace(">=", "<").replace("<=", ">").replace("==", "!=")
    }
}

/// Whether a version of `within` is in `versions`, as an expression; none when all are.
pub fn condition(versions: Versions, within: Versions) -> Option<String> {
    let Versions { min, max } = versions.intersect(within);
    if versions.covers(within) {
        None
    } else if min > max {
        Some("false".to_owned())
    } else if max >= within.max {
        Some(format!("schema_version >= {min}"))
    } else if min <= within.min {
        Some(format!("schema_version <= {max}"))
    } else if min == max {
        Some(format!("schema_version == {min}"))
    } else {
        Some(format!("({min}..={max}).contains(&schema_version)"))
    }
}
