/* The loop of a recorder's thread (record.c) as a module of Python: harken.native.mover.
 *
 * Everything else of the accelerator is called through ctypes, which takes longer to load than a short recording takes to move its pages.
 * The limited API is the same in every CPython since 3.11, so a wheel with this runs with all of them; who cannot load it uses ctypes. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../record.h"

int harken_native_version(void);

/* move(state: a writable buffer of struct stream) -> int; other threads of Python run meanwhile */
static PyObject *move(PyObject *module, PyObject *state)
{
	Py_buffer memory;
	int result;

	(void)module;
	if (PyObject_GetBuffer(state, &memory, PyBUF_WRITABLE) < 0)
		return NULL;
	if ((size_t)memory.len != sizeof(struct stream) || (uintptr_t)memory.buf % _Alignof(uint64_t)) {
		PyBuffer_Release(&memory);
		PyErr_SetString(PyExc_ValueError, "this is not the state of a stream");
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS
	result = harken_record(memory.buf);
	Py_END_ALLOW_THREADS
	PyBuffer_Release(&memory);
	return PyLong_FromLong(result);
}

static PyMethodDef functions[] = {
	{"move", move, METH_O, "Moves pages until it is told to stop: harken.native.record.move."},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT, "harken.native.mover", NULL, -1, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_mover(void)
{
	PyObject *module = PyModule_Create(&definition);

	if (module && PyModule_AddIntConstant(module, "VERSION", harken_native_version()) < 0) {
		Py_DECREF(module);
		return NULL;
	}
	return module;
}
