"""Power cuts of one folder: an ext4 of its own on a loop device, which loses what was not synced.

FS_IOC_SHUTDOWN without a flush of the journal makes the file system forget everything that was not
made durable; later writes fail. Then it is unmounted and mounted again. Needs root.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import sys

FS_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def skip_unless_possible():
    """Exits with 77 and says why, where power cannot be cut."""
    if os.geteuid() != 0:
        skip("power cuts need root")
    for tool in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(tool) is None:
            skip(f"power cuts need {tool}")
    if not os.path.exists("/dev/loop-control"):
        skip("power cuts need loop devices")


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


class Disk:
    """An ext4 of its own. The power is cut while its writers are stopped; they are killed before it
    comes back."""

    def __init__(self, base, size):
        self.image = os.path.join(base, "disk.img")
        self.mount_point = os.path.join(base, "disk")
        os.mkdir(self.mount_point)
        with open(self.image, "wb") as image:
            image.truncate(size)
        run("mkfs.ext4", "-q", "-F", self.image)
        self.mount()
        os.sync()

    def mount(self):
        run("mount", "-o", "loop", self.image, self.mount_point)

    def control(self, request, argument):
        disk = os.open(self.mount_point, os.O_RDONLY)
        fcntl.ioctl(disk, request, struct.pack("I", argument))
        os.close(disk)

    def cut(self):
        self.control(FS_IOC_SHUTDOWN, NO_LOG_FLUSH)

    def freeze(self):
        """Lets all writes wait."""
        self.control(FIFREEZE, 0)

    def thaw(self):
        self.control(FITHAW, 0)

    def is_off(self):
        """Whether it takes nothing more."""
        try:
            with open(os.path.join(self.mount_point, "after-the-cut"), "w"):
                return False
        except OSError:
            return True

    def restore(self):
        run("umount", self.mount_point)
        self.mount()

    def close(self):
        run("umount", self.mount_point)
