//! Finds the schemas in Kafka's jars.

use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::schema::Message;

/// The schemas of one jar (`kafka-clients`, `kafka-metadata`, ...) in `lib`, by name.
pub fn schemas(lib: &Path, jar: &str) -> Result<Vec<Message>, Box<dyn Error>> {
    let prefix = format!("{jar}-");
    let is_version = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.ends_with(".jar");
    let mut found = Vec::new();
    for entry in fs::read_dir(lib).map_err(|e| format!("{}: {e}", lib.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix))
            .is_some_and(is_version)
        {
            found.push(entry.path());
        }
    }
    let [path] = found.as_slice() else {
        return Err(format!(
            "{} holds {} jars named {jar}-VERSION.jar instead of one",
            lib.display(),
            found.len()
        )
        .into());
    };
    let mut archive = zip::ZipArchive::new(File::open(path)?)?;
    let mut messages = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let name = file.name().to_owned();
        if name.ends_with(".json") && (name.starts_with("common/message/") || name.starts_with("common/metadata/")) {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            messages.push(Message::parse(&text).map_err(|e| format!("{name}: {e}"))?);
        }
    }
    messages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(messages)
}
