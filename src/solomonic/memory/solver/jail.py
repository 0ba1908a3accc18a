"""What a sandboxed child does first: give up all it could do beyond computing. Then runs main.py.

Run as a script (`python -I -S jail.py LIMITS HOME [PROGRAM ...]`) it must not import anything of
this library. The system calls are made through ctypes: no package is needed for them.
"""

import ctypes
import os
import platform
import struct
import sys

_SECCOMP_FILTER, _NO_NEW_PRIVS = 22, 38
_ERRNO, _ALLOW, _KILL = 0x00050000, 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_THREAD = 0x00010000  # CLONE_THREAD

# Architecture: its audit number and the numbers of the calls that are refused.
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": (56, 435), "aarch64": (220, 435)}
_SPAWN = {"x86_64": (57, 58, 59, 322), "aarch64": (221, 281)}  # fork, vfork, execve, execveat
_NEVER = {
    "x86_64": (
        *(41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 53, 288, 299, 307),  # sockets
        *(62, 200, 234, 129, 297, 424),  # kill, tkill, tgkill, rt_sigqueueinfo, pidfd_send_signal
        *(101, 310, 311, 312, 434, 438),  # ptrace, process_vm_*, kcmp, pidfd_open, pidfd_getfd
        *(165, 166, 155, 161, 272, 308, 428, 429, 430, 431, 432, 442),  # mounts and namespaces
        *(246, 320, 175, 313, 176, 169, 167, 168, 163, 164, 170, 171, 227, 305),  # the machine
        *(248, 249, 250, 298, 321, 323, 425, 426, 427, 304, 302, 141, 203, 134),  # keys, bpf, uring
        *(29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 240, 241, 112, 109),  # shared memory, queues
    ),
    "aarch64": (
        *(198, 199, 200, 201, 202, 203, 206, 207, 211, 212, 242, 243, 269),
        *(129, 130, 131, 138, 240, 424),
        *(117, 270, 271, 272, 434, 438),
        *(39, 40, 41, 51, 97, 268, 428, 429, 430, 431, 432, 442),
        *(104, 294, 105, 273, 106, 142, 224, 225, 89, 161, 162, 170, 112, 266),
        *(217, 218, 219, 241, 280, 282, 425, 426, 427, 265, 261, 140, 122),
        *(194, 195, 196, 190, 191, 192, 193, 186, 187, 188, 189, 180, 181, 157, 154),
    ),
}
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, read a folder
_FILE_READ = 1 << 0 | 1 << 2
_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8  # write, remove, make folders and files
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/dev/null", "/dev/urandom")


def available() -> list[str]:
    """What this machine can put in force."""
    found = []
    if sys.platform == "linux" and platform.machine() in _AUDIT and sys.maxsize > 2**32:
        if os.path.exists("/proc/sys/kernel/seccomp"):
            found.append("seccomp")
        if _landlock_version() > 0:
            found.append("landlock")
    return [*found, "rlimits"]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _landlock_version() -> int:
    return _libc().syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))


def limit(cpu: int, memory: int, file_bytes: int, files: int) -> None:
    """Resource limits of this process and all that it becomes."""
    import resource

    for name, value in (
        ("RLIMIT_CPU", cpu),
        ("RLIMIT_AS", memory),
        ("RLIMIT_FSIZE", file_bytes),
        ("RLIMIT_NOFILE", files),
        ("RLIMIT_CORE", 0),
    ):
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(number, (value, value + (name == "RLIMIT_CPU")))
        except (ValueError, OSError):  # macOS refuses RLIMIT_AS
            if name != "RLIMIT_AS":
                raise


def no_new_privileges() -> None:
    """What both filters ask for first."""
    if _libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")


def confine_files(home: str, readable: tuple[str, ...]) -> None:
    """Landlock: read below `readable`, write below `home`; nothing else can be opened."""
    libc = _libc()
    handled = (1 << 13) - 1
    if _landlock_version() >= 3:
        handled |= 1 << 14  # truncate
    rules = struct.pack("Q", handled)
    ruleset = libc.syscall(_LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), ctypes.c_uint32(0))
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock")
    allowed = [(path, _READ) for path in readable]
    allowed.append((home, _READ | _WRITE | handled & 1 << 14))
    for path, access in allowed:
        if not os.path.exists(path):
            continue
        where = os.open(path, os.O_PATH | os.O_CLOEXEC)
        access = access if os.path.isdir(path) else access & _FILE_READ
        rule = struct.pack("=Qi", access, where)
        if libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, ctypes.c_uint32(0)):
            raise OSError(ctypes.get_errno(), f"landlock {path}")
        os.close(where)
    if libc.syscall(_LANDLOCK_RESTRICT, ruleset, ctypes.c_uint32(0)):
        raise OSError(ctypes.get_errno(), "landlock")
    os.close(ruleset)


def filter_calls(may_exec: bool, may_write: bool) -> None:
    """seccomp: refuse what is in the tables above; for ever, and for whatever is executed."""
    machine = platform.machine()
    program: list[bytes] = []

    def statement(code: int, value: int, yes: int = 0, no: int = 0) -> None:
        program.append(struct.pack("HBBI", code, yes, no, value & 0xFFFFFFFF))

    load, equal, above, masked, back = 0x20, 0x15, 0x35, 0x45, 0x06
    statement(load, 4)
    statement(equal, _AUDIT[machine], yes=1)
    statement(back, _KILL)
    statement(load, 0)
    if machine == "x86_64":  # the x32 numbers of the same calls
        statement(above, 0x40000000, no=1)
        statement(back, _KILL)
    refused = _NEVER[machine] + (() if may_exec else _SPAWN[machine])
    if may_exec:
        refused += _SPAWN[machine][:2] if machine == "x86_64" else ()
    for number in refused:
        statement(equal, number, no=1)
        statement(back, _ERRNO | _EPERM)
    clone, clone3 = _CLONE[machine]
    statement(equal, clone3, no=1)  # its flags are out of sight: libc falls back to clone
    statement(back, _ERRNO | _ENOSYS)
    statement(equal, clone, no=4)
    statement(load, 16)  # the low half of the first argument
    statement(masked, _THREAD, yes=1)
    statement(back, _ERRNO | _EPERM)
    statement(back, _ALLOW)
    if not may_write:
        _refuse_writing(statement, machine)
    statement(back, _ALLOW)
    _install(b"".join(program), len(program))


def _refuse_writing(statement, machine: str) -> None:  # type: ignore[no-untyped-def]
    """Without Landlock: nothing may be opened for writing, made, renamed or removed."""
    load, equal, masked, back = 0x20, 0x15, 0x45, 0x06
    x86 = machine == "x86_64"
    if x86:
        changing = (
            *(76, 82, 83, 84, 85, 86, 87, 88, 90, 92, 94, 132, 133, 235, 258, 259, 260, 263),
            *(264, 265, 266, 268, 280, 316, 437, 452),
        )
    else:
        changing = (33, 34, 35, 36, 37, 38, 45, 52, 53, 54, 88, 276, 437, 452)
    for number in changing:
        statement(equal, number, no=1)
        statement(back, _ERRNO | _EPERM)
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    for number, flags in ((2, 24), (257, 32)) if x86 else ((56, 32),):
        statement(equal, number, no=4)
        statement(load, flags)
        statement(masked, writing, no=1)
        statement(back, _ERRNO | _EPERM)
        statement(back, _ALLOW)


def _install(code: bytes, count: int) -> None:
    buffer = ctypes.create_string_buffer(code)

    class Program(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(count, ctypes.cast(buffer, ctypes.c_void_p))
    if _libc().prctl(_SECCOMP_FILTER, 2, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def main(arguments: list[str]) -> None:
    """Confine this process, then run HOME/main.py in it, or become PROGRAM."""
    limits, home, *program = arguments
    cpu, memory, file_bytes, files = map(int, limits.split(","))
    here = available()
    readable = (
        *_SYSTEM,
        sys.prefix,
        sys.base_prefix,
        *([os.path.dirname(program[0])] if program else []),
    )
    with open(os.path.join(home, "main.py"), encoding="utf-8") as file:
        source = file.read()
    code = compile(source, "main.py", "exec")
    limit(cpu, memory, file_bytes, files)
    if "seccomp" in here:
        no_new_privileges()
        if "landlock" in here:
            confine_files(home, readable)
        filter_calls(may_exec=bool(program), may_write="landlock" in here)
    if program:
        os.execv(program[0], program)
    exec(code, {"__name__": "__main__"})  # the purpose of this file


if __name__ == "__main__":
    main(sys.argv[1:])
