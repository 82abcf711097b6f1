"""Filters by container (``bcc.containers``): C text for the options ``--cgroupmap`` and ``--mntnsmap`` of the tools.

A container manager keeps a pinned hash map whose keys are the ids of cgroups, or the inode numbers of mount namespaces, that shall be
traced; the generated functions look the current task up in it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("filter_by_containers",)

_PASS = "static inline int {name}() {{ return 0; }}\n"

_CGROUP = """BPF_TABLE_PINNED("hash", u64, u64, cgroupset, 1024, "{path}");

static inline int _cgroup_filter() {{
    u64 id = bpf_get_current_cgroup_id();
    return cgroupset.lookup(&id) == NULL;
}}
"""

_NAMESPACE = """#include <linux/nsproxy.h>
#include <linux/ns_common.h>
#include <linux/sched.h>

/* tells programs that would define it themselves that struct mnt_namespace is there */
#define MNT_NAMESPACE_DEFINED

BPF_TABLE_PINNED("hash", u64, u32, mount_ns_set, 1024, "{path}");

static inline int _mntns_filter() {{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    struct nsproxy *proxy;
    struct mnt_namespace *space;
    unsigned int number;

    if (bpf_probe_read_kernel(&proxy, sizeof(proxy), &task->nsproxy))
        return 0;
    if (bpf_probe_read_kernel(&space, sizeof(space), &proxy->mnt_ns))
        return 0;
    if (bpf_probe_read_kernel(&number, sizeof(number), &space->ns.inum))
        return 0;
    u64 id = number;
    return mount_ns_set.lookup(&id) == NULL;
}}
"""

_BOTH = """static inline int container_should_be_filtered() {
    return _cgroup_filter() || _mntns_filter();
}
"""


def filter_by_containers(args: Any) -> str:
    """C text that defines ``container_should_be_filtered()``.

    Args:
        args: the script's options: ``cgroupmap`` and ``mntnsmap`` are paths of pinned maps, or None.
    """
    cgroup = getattr(args, "cgroupmap", None)
    namespace = getattr(args, "mntnsmap", None)
    text = _CGROUP.format(path=cgroup) if cgroup else _PASS.format(name="_cgroup_filter")
    text += _NAMESPACE.format(path=namespace) if namespace else _PASS.format(name="_mntns_filter")
    return text + _BOTH
