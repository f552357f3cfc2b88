//! Small disks for the servers, which can be filled up.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// How much is taken at once: what turns out not to be there is given back, all of it.
const STEP: u64 = 64 * 1024 * 1024;

/// How long what others free meanwhile is taken, too.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file system in memory of a given size. Dropping it takes it away; what is open in it goes on.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one of so many MiB at a new directory.
    ///
    /// # Errors
    /// When the directory is there, or the user may not mount.
    pub fn mount(path: &Path, mebibytes: u64) -> Result<Self> {
        fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
        let options = format!("size={mebibytes}m,mode=755");
        let options = std::ffi::CString::new(options)?;
        let mounted = mount(
            "tmpfs",
            path,
            "tmpfs",
            MountFlags::empty(),
            Some(options.as_c_str()),
        );
        mounted.context("mount a small disk, which takes root")?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all room that is left.
    ///
    /// # Errors
    /// When that fails for another reason than that there is none.
    pub fn fill(&self) -> Result<()> {
        let ballast = File::create(self.ballast()).context("make the ballast")?;
        let mut length = 0;
        // Others write meanwhile, and free what they had.
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            let disk = statvfs(&self.path)?;
            let free = disk.f_bavail * disk.f_frsize;
            if free == 0 {
                return Ok(());
            }
            let step = free.min(STEP);
            match fallocate(&ballast, FallocateFlags::empty(), length, step) {
                Ok(()) => length += step,
                Err(rustix::io::Errno::NOSPC) => {}
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// When the file system does not let it.
    pub fn empty(&self) -> Result<()> {
        match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("remove the ballast")
            }
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("unmount {}: {error}", self.path.display());
        }
    }
}
