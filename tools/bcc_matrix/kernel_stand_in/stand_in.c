// Stands in for what test kernels lack: functions of the ZFS module, tracepoints of critical sections (CONFIG_PREEMPTIRQ_TRACEPOINTS)
// and of PowerPC's calls of its hypervisor, counters of cache references and misses.  Reading, writing and synchronising /dev/stand_in
// calls the functions of ZFS (as its module was before 0.7, which is what zfsslower takes), and fires the tracepoints; the counters
// overflow every millisecond.  For Linux 6.1.
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/instruction_pointer.h>
#include <linux/irqflags.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/perf_event.h>
#include <linux/preempt.h>
#include <linux/uaccess.h>
#include <asm/irq_regs.h>
#include <asm/sections.h>

static unsigned long stext;
module_param(stext, ulong, 0);
MODULE_PARM_DESC(stext, "address of _stext, which is not exported");

// the kernel's own description of these events
#define CONFIG_PREEMPTIRQ_TRACEPOINTS 1
#define CONFIG_TRACE_IRQFLAGS 1
#define CONFIG_TRACE_PREEMPT_TOGGLE 1
#undef trace_irq_enable
#undef trace_irq_disable
#undef trace_irq_enable_rcuidle
#undef trace_irq_disable_rcuidle
#undef trace_preempt_enable
#undef trace_preempt_disable
#undef trace_preempt_enable_rcuidle
#undef trace_preempt_disable_rcuidle
#define _stext stext
#define CREATE_TRACE_POINTS
#include <trace/events/preemptirq.h>
#include "hypervisor_calls.h"
#undef _stext

static void critical_sections(void)
{
	unsigned long flags;

	local_irq_save(flags);
	trace_irq_disable(_THIS_IP_, _RET_IP_);
	udelay(1500);
	trace_irq_enable(_THIS_IP_, _RET_IP_);
	local_irq_restore(flags);
	preempt_disable();
	trace_preempt_disable(_THIS_IP_, _RET_IP_);
	udelay(1500);
	trace_preempt_enable(_THIS_IP_, _RET_IP_);
	preempt_enable();
}

static void hypervisor_calls(void)
{
	static const unsigned long opcodes[] = {4, 12, 88, 664}; // H_REMOVE, H_READ, H_PUT_TERM_CHAR, H_JOIN
	unsigned long arguments[9] = {0};
	int at;

	for (at = 0; at < ARRAY_SIZE(opcodes); at++) {
		trace_hcall_entry(opcodes[at], arguments);
		trace_hcall_exit(opcodes[at], at == 3 ? -1 : 0, arguments);
	}
}

static noinline int zpl_open(struct inode *inode, struct file *file)
{
	return 0;
}

static noinline ssize_t zpl_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	usleep_range(2000, 3000);
	if (*at >= 4096)
		return 0;
	size = min_t(size_t, size, 4096 - *at);
	if (clear_user(to, size))
		return -EFAULT;
	*at += size;
	return size;
}

static noinline ssize_t zpl_write(struct file *file, const char __user *from, size_t size, loff_t *at)
{
	critical_sections();
	hypervisor_calls();
	usleep_range(2000, 3000);
	*at += size;
	return size;
}

static noinline int zpl_fsync(struct file *file, loff_t start, loff_t end, int data_only)
{
	usleep_range(12000, 13000);
	return 0;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = zpl_open,
	.read = zpl_read,
	.write = zpl_write,
	.fsync = zpl_fsync,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "stand_in",
	.fops = &operations,
};

static enum hrtimer_restart overflow(struct hrtimer *timer)
{
	struct perf_event *event = container_of(timer, struct perf_event, hw.hrtimer);
	struct pt_regs *regs = get_irq_regs();
	struct perf_sample_data data;

	if (event->state != PERF_EVENT_STATE_ACTIVE)
		return HRTIMER_NORESTART;
	perf_sample_data_init(&data, 0, event->hw.sample_period);
	if (regs)
		event->overflow_handler(event, &data, regs);
	hrtimer_forward_now(timer, ms_to_ktime(1));
	return HRTIMER_RESTART;
}

static int counter_init(struct perf_event *event)
{
	u64 config = event->attr.config;

	if (event->attr.type != PERF_TYPE_HARDWARE)
		return -ENOENT;
	if (config != PERF_COUNT_HW_CACHE_REFERENCES && config != PERF_COUNT_HW_CACHE_MISSES)
		return -ENOENT;
	hrtimer_init(&event->hw.hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	event->hw.hrtimer.function = overflow;
	return 0;
}

static void counter_start(struct perf_event *event, int flags)
{
	hrtimer_start(&event->hw.hrtimer, ms_to_ktime(1), HRTIMER_MODE_REL_PINNED_HARD);
}

static void counter_stop(struct perf_event *event, int flags)
{
	hrtimer_cancel(&event->hw.hrtimer);
}

static int counter_add(struct perf_event *event, int flags)
{
	if (flags & PERF_EF_START)
		counter_start(event, flags);
	return 0;
}

static void counter_read(struct perf_event *event)
{
}

static struct pmu counters = {
	.module = THIS_MODULE,
	.task_ctx_nr = perf_hw_context,
	.event_init = counter_init,
	.add = counter_add,
	.del = counter_stop,
	.start = counter_start,
	.stop = counter_stop,
	.read = counter_read,
};

static int __init stand_in_init(void)
{
	int error = perf_pmu_register(&counters, "stand_in", PERF_TYPE_RAW);

	if (error)
		return error;
	error = misc_register(&device);
	if (error)
		perf_pmu_unregister(&counters);
	return error;
}

static void __exit stand_in_exit(void)
{
	misc_deregister(&device);
	perf_pmu_unregister(&counters);
}

module_init(stand_in_init);
module_exit(stand_in_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("stands in for what BCC's tools watch and test kernels lack");
