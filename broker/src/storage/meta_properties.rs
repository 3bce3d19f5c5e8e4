//! `meta.properties`: whose a log directory is. Version 1, as Kafka 4 writes it: `cluster.id`,
//! `node.id`, `directory.id`. Version 0 of older Kafkas (`broker.id`) is read too.

use std::path::Path;

use ottla_common::types::{BrokerId, Uuid};

use super::error::StorageError;
use super::files::FileSystem;

/// The file's name.
pub const FILE: &str = "meta.properties";

/// What the file says. All of it may be missing in a directory that was never used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaProperties {
    /// The broker that owns the directory.
    pub broker_id: Option<BrokerId>,
    /// Its cluster, as text: other programs' ids need not be uuids.
    pub cluster_id: Option<String>,
    /// The directory's own id (KIP-858).
    pub directory_id: Option<Uuid>,
}

impl MetaProperties {
    /// Reads a directory's file, if there is one.
    ///
    /// # Errors
    /// If it cannot be read or makes no sense: guessing here could give a broker another's data.
    pub fn read(file_system: &FileSystem, dir: &Path) -> Result<Option<Self>, StorageError> {
        let path = dir.join(FILE);
        let Some(content) = file_system.read(&path).map_err(StorageError::io("read", &path))?
        else {
            return Ok(None);
        };
        let wrong = |what: String| StorageError::WrongDirectory { path: path.clone(), what };
        let text = String::from_utf8(content).map_err(|_| {
            wrong("it is not text; restore it, or remove it to give the directory anew".to_owned())
        })?;
        let mut properties = Self::default();
        let mut version = None;
        for line in text.lines().map(str::trim) {
            let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let value = value.trim();
            let invalid = || wrong(format!("{line:?} makes no sense"));
            match key.trim() {
                "version" => version = Some(value.to_owned()),
                "cluster.id" => properties.cluster_id = Some(value.replace('\\', "")),
                "node.id" | "broker.id" => {
                    let id = value.parse().map_err(|_| invalid())?;
                    properties.broker_id = Some(BrokerId(id));
                }
                "directory.id" => {
                    properties.directory_id = Some(value.parse().map_err(|_| invalid())?);
                }
                _ => {}
            }
        }
        match version.as_deref() {
            Some("0" | "1") => Ok(Some(properties)),
            Some(other) => Err(wrong(format!("its version is {other:?}, not 0 or 1"))),
            None => Err(wrong(
                "it has no version; restore it, or remove it to give the directory anew".to_owned(),
            )),
        }
    }

    /// Writes a directory's file.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write(&self, file_system: &FileSystem, dir: &Path) -> Result<(), StorageError> {
        let path = dir.join(FILE);
        let mut text = String::from("#\n");
        if let Some(cluster_id) = &self.cluster_id {
            text.push_str(&format!("cluster.id={cluster_id}\n"));
        }
        if let Some(directory_id) = &self.directory_id {
            text.push_str(&format!("directory.id={directory_id}\n"));
        }
        if let Some(broker_id) = &self.broker_id {
            text.push_str(&format!("node.id={broker_id}\n"));
        }
        text.push_str("version=1\n");
        file_system
            .write_atomically(&path, text.as_bytes())
            .map_err(StorageError::io("write", &path))
    }

    /// Whether a directory with these properties may be used by a broker.
    ///
    /// # Errors
    /// If it belongs to another broker or cluster.
    pub fn check(
        &self,
        dir: &Path,
        broker_id: BrokerId,
        cluster_id: Option<Uuid>,
    ) -> Result<(), StorageError> {
        let wrong = |what: String| StorageError::WrongDirectory { path: dir.join(FILE), what };
        if let Some(own) = self.broker_id.filter(|&own| own != broker_id) {
            return Err(wrong(format!(
                "the directory belongs to broker {own} and this is broker {broker_id}; \
                 correct broker.id or log.dirs"
            )));
        }
        let cluster_id = cluster_id.map(|id| id.to_string());
        if let (Some(own), Some(expected)) = (&self.cluster_id, cluster_id)
            && *own != expected
        {
            return Err(wrong(format!(
                "the directory belongs to cluster {own} and this broker joins cluster {expected}; \
                 correct log.dirs or the coordinator's address"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_knows_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let files = FileSystem::real();
        assert_eq!(MetaProperties::read(&files, dir.path()).unwrap(), None);
        let (cluster, directory) = (Uuid::random().unwrap(), Uuid::random().unwrap());
        let properties = MetaProperties {
            broker_id: Some(BrokerId(3)),
            cluster_id: Some(cluster.to_string()),
            directory_id: Some(directory),
        };
        properties.write(&files, dir.path()).unwrap();
        assert_eq!(MetaProperties::read(&files, dir.path()).unwrap(), Some(properties.clone()));
        properties.check(dir.path(), BrokerId(3), Some(cluster)).unwrap();
        properties.check(dir.path(), BrokerId(3), None).unwrap();
        let error = properties.check(dir.path(), BrokerId(4), None).unwrap_err();
        assert!(error.to_string().contains("belongs to broker 3"), "{error}");
        let other = Some(Uuid::random().unwrap());
        properties.check(dir.path(), BrokerId(3), other).unwrap_err();
    }

    #[test]
    fn what_kafka_writes_is_read_and_nonsense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = FileSystem::real();
        let path = dir.path().join(FILE);
        let kafka = "#\n#Sun Nov 22 17:00:00 UTC 2026\ncluster.id=MkU3OEVBNTcwNTJENDM2Qg\n\
                     directory.id=kZ_nTl8TR8CjZHJ3vVdZRw\nnode.id=1\nversion=1\n";
        std::fs::write(&path, kafka).unwrap();
        let read = MetaProperties::read(&files, dir.path()).unwrap().unwrap();
        assert_eq!(read.broker_id, Some(BrokerId(1)));
        std::fs::write(&path, "version=0\nbroker.id=7\ncluster.id=x\n").unwrap();
        let read = MetaProperties::read(&files, dir.path()).unwrap().unwrap();
        assert_eq!(read.broker_id, Some(BrokerId(7)));
        for nonsense in ["", "version=9\n", "version=1\nnode.id=x\n"] {
            std::fs::write(&path, nonsense).unwrap();
            MetaProperties::read(&files, dir.path()).unwrap_err();
        }
    }
}
