cpdef str preview(value, Py_ssize_t limit=*, int depth=*)
