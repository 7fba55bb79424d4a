//! The database with the images' metadata. A damaged one is set aside and made anew from what is on disk: the
//! engine starts whatever state it is in.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ferry_image::{ImageStore, LostFound};
use redb::{Database, DatabaseError};

use crate::error::{EngineError, Result};
use crate::paths::Paths;

/// Opens the images' metadata, or makes it for a new data root. Layers without metadata would be deleted as
/// garbage under the containers that use them: then, too, it is made from what is there.
pub(crate) fn open(paths: &Paths) -> Result<Database> {
    let path = paths.database();
    let is_empty = fs::metadata(&path).map_or(true, |m| m.len() == 0);
    let has_layers = fs::read_dir(paths.images().join("layers")).is_ok_and(|mut dir| dir.next().is_some());
    if is_empty && has_layers {
        return rebuild(paths, "the image database is missing, but there are layers");
    }
    match examine(&path) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(why)) => rebuild(paths, &format!("the image database is damaged: {why}")),
        Err(error) => Err(error),
    }
}

/// Opens the database and reads all of it. The inner error is damage, the outer one is not.
fn examine(path: &Path) -> Result<Result<Database, String>> {
    // What is wrong with a file is the library's to find out, and where it does so by a panic, that is an answer, too.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut database = Database::create(path)?;
        database.check_integrity()?;
        Ok::<_, DatabaseError>(database)
    }));
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
            let message = format!("the image database {} is in use by another process", path.display());
            return Err(EngineError::System(message));
        }
        Ok(Err(DatabaseError::Storage(redb::StorageError::Io(source))))
            if !matches!(
                source.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            return Err(EngineError::File { action: "open", path: path.to_owned(), source });
        }
        Ok(Err(error)) => return Ok(Err(error.to_string())),
        Err(_) => return Ok(Err("it cannot be read".to_owned())),
    };
    match catch_unwind(AssertUnwindSafe(|| ImageStore::examine(&database))) {
        Ok(Ok(())) => Ok(Ok(database)),
        Ok(Err(error)) => Ok(Err(error.to_string())),
        Err(_) => Ok(Err("its tables cannot be read".to_owned())),
    }
}

fn rebuild(paths: &Paths, why: &str) -> Result<Database> {
    let path = paths.database();
    let aside = LostFound::new(paths.lost_found());
    let fail = |action| {
        let path = path.clone();
        move |source| EngineError::File { action, path, source }
    };
    let kept = match fs::metadata(&path) {
        Ok(_) => Some(aside.take(&path, why).map_err(fail("set aside"))?),
        Err(_) => None,
    };
    let database = Database::create(&path)
        .map_err(|e| EngineError::System(format!("make the image database {}: {e}", path.display())))?;
    let rebuilt = ImageStore::rebuild(&paths.images(), &database, &aside)?;
    tracing::error!(
        why,
        kept = kept.map(|path| path.display().to_string()),
        images = rebuilt.images,
        names = rebuilt.names,
        layers = rebuilt.layers,
        set_aside = rebuilt.set_aside.len(),
        "the image database was made anew from what is on disk"
    );
    Ok(database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_the_file_it_opens() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        fs::create_dir_all(dir.path().join("data")).unwrap();
        drop(open(&paths).unwrap());
        let sound = fs::read(paths.database()).unwrap();
        let mut scrambled = sound.clone();
        for byte in scrambled.iter_mut().skip(64) {
            *byte ^= 0x5a;
        }
        let wrecks = [
            b"no database at all, but text that is long enough to look at".to_vec(),
            sound[..sound.len() / 3].to_vec(),
            scrambled,
            vec![0; 4096],
            vec![0xff; 100_000],
        ];
        for (number, wreck) in wrecks.iter().enumerate() {
            fs::write(paths.database(), wreck).unwrap();
            drop(open(&paths).unwrap_or_else(|e| panic!("wreck {number}: {e}")));
            assert_eq!(LostFound::new(paths.lost_found()).list().len(), number + 1, "wreck {number}");
        }
        // And a sound one is left alone.
        drop(open(&paths).unwrap());
        assert_eq!(LostFound::new(paths.lost_found()).list().len(), wrecks.len());
    }
}
