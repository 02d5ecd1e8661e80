//! `meta.properties`: which cluster, node and directory a log directory belongs to (KIP-631, KIP-858).

use std::io;
use std::path::{Path, PathBuf};

use ottla_domain::ids::{BrokerId, DirectoryId};
use ottla_domain::ports::outbound::StorageError;

use crate::atomic_file;

/// The content of a `meta.properties` file of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// `cluster.id`: the same in all directories of all nodes of a cluster.
    pub cluster_id: String,
    /// `node.id`: whose directory this is.
    pub node_id: BrokerId,
    /// `directory.id`: unique in the cluster; made when the directory is formatted.
    pub directory_id: DirectoryId,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("meta.properties")
}

impl MetaProperties {
    /// Formats a directory: writes its `meta.properties` durably, making the directory when it is missing.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let text = format!(
            "#\nversion=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            self.cluster_id, self.node_id, self.directory_id
        );
        atomic_file::write(&path(directory), text.as_bytes())
    }

    /// Reads a directory's `meta.properties`; `None` when the directory is not formatted. The inner error tells what in
    /// the file is wrong.
    pub fn read(directory: &Path) -> io::Result<Result<Option<MetaProperties>, StorageError>> {
        let path = path(directory);
        let Some(text) = atomic_file::read(&path)? else {
            return Ok(Ok(None));
        };
        Ok(parse(&text)
            .map(Some)
            .map_err(|problem| StorageError::Refused(format!("{}: {problem}", path.display()))))
    }

    /// Refuses a directory of another cluster or node.
    pub fn check(&self, directory: &Path, cluster_id: &str, node_id: BrokerId) -> Result<(), StorageError> {
        let differs = |key: &str, found: &dyn std::fmt::Display, expected: &dyn std::fmt::Display, way_out: &str| {
            Err(StorageError::Refused(format!(
                "{} has {key}={found}, but this node has {key}={expected}; {way_out}",
                path(directory).display()
            )))
        };
        if self.cluster_id != cluster_id {
            let way_out = "use a directory of this cluster, or an empty one";
            return differs("cluster.id", &self.cluster_id, &cluster_id, way_out);
        }
        if self.node_id != node_id {
            let way_out = "correct node.id in the configuration, or use the directory of this node";
            return differs("node.id", &self.node_id, &node_id, way_out);
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<MetaProperties, String> {
    let get = |key: &str| {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.starts_with(['#', '!']))
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| name.trim() == key)
            // Java escapes colons and equals signs in values.
            .map(|(_, value)| value.trim().replace('\\', ""))
            .ok_or_else(|| format!("{key} is missing"))
    };
    let version = get("version")?;
    if version != "1" {
        return Err(format!("version={version} is not supported, only version=1 is"));
    }
    let node_id = get("node.id")?;
    let directory_id = get("directory.id")?;
    Ok(MetaProperties {
        cluster_id: get("cluster.id")?,
        node_id: node_id
            .parse()
            .map(BrokerId)
            .map_err(|_| format!("node.id={node_id} is no number"))?,
        directory_id: directory_id.parse().map_err(|error| format!("directory.id: {error}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> MetaProperties {
        MetaProperties {
            cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
            node_id: BrokerId(3),
            directory_id: DirectoryId(uuid::Uuid::from_u128(77)),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("new");
        assert_eq!(MetaProperties::read(&directory).unwrap().unwrap(), None);
        sample().write(&directory).unwrap();
        assert_eq!(MetaProperties::read(&directory).unwrap().unwrap(), Some(sample()));
    }

    #[test]
    fn what_apache_kafka_wrote_is_read() {
        let text = "#\n#Mon Nov 24 06:10:00 UTC 2025\ncluster.id=MkU3OEVBNTcwNTJENDM2Qg\ndirectory.id=AAAAAAAAAAAAAAAAAAAATQ\nnode.id=3\nversion=1\n";
        assert_eq!(parse(text), Ok(sample()));
        assert!(parse("version=0\nbroker.id=1\n").is_err());
        assert_eq!(parse("version=1\ncluster.id=x\n"), Err("node.id is missing".to_owned()));
    }

    #[test]
    fn another_cluster_or_node_is_refused_naming_both() {
        let directory = Path::new("/data");
        assert!(sample().check(directory, "MkU3OEVBNTcwNTJENDM2Qg", BrokerId(3)).is_ok());
        let refusal = sample().check(directory, "other", BrokerId(3)).unwrap_err().to_string();
        for part in ["/data/meta.properties", "MkU3OEVBNTcwNTJENDM2Qg", "other"] {
            assert!(refusal.contains(part), "{refusal}");
        }
        let refusal = sample()
            .check(directory, "MkU3OEVBNTcwNTJENDM2Qg", BrokerId(4))
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("node.id=3") && refusal.contains("node.id=4"),
            "{refusal}"
        );
    }
}
