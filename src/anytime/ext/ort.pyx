# cython: language_level=3, boundscheck=False, wraparound=False
"""ONNX Runtime through its C API: sessions, tensors over numpy memory, bindings, and runs without the GIL.

The functions come from ``libonnxruntime.so``, which the onnxruntime wheels carry beside their Python module; the module
itself is not imported.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, int64_t

from anytime.ext.logits cimport argmax
from anytime.ext.ort_api cimport (
    ORT_API_VERSION_USED,
    GetApiBase,
    OrtAllocator,
    OrtApi,
    OrtApiBase,
    OrtEnv,
    OrtIoBinding,
    OrtMemoryInfo,
    OrtRunOptions,
    OrtSession,
    OrtSessionOptions,
    OrtShapeInfo,
    OrtStatus,
    OrtValue,
)

import numpy as np

from anytime.ext import attention

cdef extern from "<dlfcn.h>" nogil:
    void *dlopen(const char *, int)
    void *dlsym(void *, const char *)
    char *dlerror()
    const int RTLD_NOW
    const int RTLD_LOCAL

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)

cdef const OrtApi *_api = NULL
cdef OrtEnv *_env = NULL
cdef OrtMemoryInfo *_memory = NULL
cdef OrtAllocator *_allocator = NULL
cdef str _version = ""

_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int32): 6, np.dtype(np.int64): 7}  # ONNXTensorElementDataType
IDLE = -1  # instead of a token: the row takes no part
cdef enum:
    _ERRORS_ONLY = 3  # log severity
    _DEVICE_ALLOCATOR = 0
    _DEFAULT_MEMORY = 0


class OrtError(RuntimeError):
    """ONNX Runtime refused or failed; the text is its own."""


class Terminated(Exception):
    """The run was told to end."""


cdef int _check(OrtStatus *status) except -1:
    if status == NULL:
        return 0
    message = _api.GetErrorMessage(status).decode("utf-8", "replace")
    _api.ReleaseStatus(status)
    raise OrtError(message)


def load(str path):
    """Load the library, once in a process; its version.

    Raises:
        OSError: it cannot be loaded, or is too old.
    """
    global _api, _env, _memory, _allocator, _version
    if _api != NULL:
        return _version
    cdef void *library = dlopen(path.encode(), RTLD_NOW | RTLD_LOCAL)
    if library == NULL:
        raise OSError(dlerror().decode("utf-8", "replace"))
    cdef GetApiBase base = <GetApiBase>dlsym(library, "OrtGetApiBase")
    if base == NULL:
        raise OSError(f"{path} has no OrtGetApiBase")
    version = base().GetVersionString().decode()
    cdef const OrtApi *api = base().GetApi(ORT_API_VERSION_USED)
    if api == NULL:
        raise OSError(f"{path} is ONNX Runtime {version}, older than 1.{ORT_API_VERSION_USED}")
    _api = api
    _check(api.CreateEnv(_ERRORS_ONLY, "anytime", &_env))
    _check(api.CreateCpuMemoryInfo(_DEVICE_ALLOCATOR, _DEFAULT_MEMORY, &_memory))
    _check(api.GetAllocatorWithDefaultOptions(&_allocator))
    _version = version
    return version


cdef class Session:
    """A graph opened on the CPU. ``growing`` graphs see new shapes at every run, for which nothing is planned ahead."""

    cdef OrtSession *_session
    cdef readonly tuple inputs, outputs

    def __cinit__(self, str path, int threads, bint growing):
        cdef OrtSessionOptions *options = NULL
        cdef void *library = NULL  # stays loaded, as the module does
        _check(_api.CreateSessionOptions(&options))
        try:
            _check(_api.SetIntraOpNumThreads(options, threads))
            _check(_api.SetInterOpNumThreads(options, 1))
            _check(_api.SetSessionLogSeverityLevel(options, _ERRORS_ONLY))
            # A spinning worker would take the core on which the caller waits for its deadline.
            _check(_api.AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"))
            _check(_api.RegisterCustomOpsLibrary(options, attention.__file__.encode(), &library))
            if growing:
                _check(_api.DisableMemPattern(options))
            _check(_api.CreateSession(_env, path.encode(), options, &self._session))
        finally:
            _api.ReleaseSessionOptions(options)
        self.inputs = self._names(True)
        self.outputs = self._names(False)

    cdef tuple _names(self, bint inputs):
        cdef size_t count = 0
        cdef char *name = NULL
        names = []
        _check(_api.SessionGetInputCount(self._session, &count) if inputs
               else _api.SessionGetOutputCount(self._session, &count))
        for i in range(count):
            _check(_api.SessionGetInputName(self._session, i, _allocator, &name) if inputs
                   else _api.SessionGetOutputName(self._session, i, _allocator, &name))
            names.append(name.decode())
            _check(_api.AllocatorFree(_allocator, name))
        return tuple(names)

    def __dealloc__(self):
        if self._session != NULL:
            _api.ReleaseSession(self._session)


cdef class Tensor:
    """A tensor over the memory of a C-contiguous numpy array, or one that a run made."""

    cdef OrtValue *_value
    cdef object _array

    def __cinit__(self, array=None):
        if array is not None:
            self._over(array)

    cdef int _over(self, array) except -1:
        cdef int64_t shape[8]
        cdef size_t address
        if not array.flags.c_contiguous or array.ndim > 8:
            raise ValueError("a tensor needs a C-contiguous array of at most 8 dimensions")
        for i in range(array.ndim):
            shape[i] = array.shape[i]
        address = array.ctypes.data
        self._array = array  # kept, because ONNX Runtime does not own the memory
        return _check(_api.CreateTensorWithDataAsOrtValue(
            _memory, <void *>address, array.nbytes, shape, array.ndim, _TYPES[array.dtype], &self._value))

    def floats(self):
        """The content as an array of its own, float32."""
        cdef OrtShapeInfo *info = NULL
        cdef size_t rank = 0
        cdef int64_t shape[8]
        cdef void *data = NULL
        _check(_api.GetTensorTypeAndShape(self._value, &info))
        try:
            _check(_api.GetDimensionsCount(info, &rank))
            _check(_api.GetDimensions(info, shape, rank))
        finally:
            _api.ReleaseShapeInfo(info)
        _check(_api.GetTensorMutableData(self._value, &data))
        dimensions = [shape[i] for i in range(rank)]
        count = 1
        for n in dimensions:
            count *= n
        if count == 0:
            return np.zeros(dimensions, dtype=np.float32)
        return np.array(<float[:count]>(<float *>data)).reshape(dimensions)

    def __dealloc__(self):
        if self._value != NULL:
            _api.ReleaseValue(self._value)


cdef class Control:
    """Says which generation runs, and ends it. ``terminate`` may come from any thread, and from C without the GIL."""

    cdef pthread_mutex_t _mutex
    cdef long _running, _terminated
    cdef OrtRunOptions *_options

    def __cinit__(self):
        pthread_mutex_init(&self._mutex, NULL)
        self._running = self._terminated = -1
        self._options = NULL

    cdef int _begin(self, long generation) except -1:
        cdef OrtRunOptions *options = NULL  # one a run: its terminate flag, once set, stays set
        _check(_api.CreateRunOptions(&options))
        pthread_mutex_lock(&self._mutex)
        cdef bint dead = generation == self._terminated
        if not dead:
            self._running, self._options = generation, options
        pthread_mutex_unlock(&self._mutex)
        if dead:
            _api.ReleaseRunOptions(options)
            raise Terminated("the run was terminated before it began")
        return 0

    cdef bint _end(self) noexcept nogil:
        """Whether the run had been told to end."""
        cdef OrtRunOptions *options
        pthread_mutex_lock(&self._mutex)
        cdef bint told = self._running == self._terminated
        options = self._options
        self._running, self._options = -1, NULL
        pthread_mutex_unlock(&self._mutex)
        _api.ReleaseRunOptions(options)
        return told

    def terminate(self, long generation):
        """End the run of this generation, now or when it begins; another one is not touched."""
        with nogil:
            pthread_mutex_lock(&self._mutex)
            self._terminated = generation
            if self._running == generation:
                _api.RunOptionsSetTerminate(self._options)
            pthread_mutex_unlock(&self._mutex)

    @property
    def running(self):
        return self._running >= 0


cdef class Binding:
    """What a session's inputs and outputs are bound to; what is bound stays alive with it."""

    cdef OrtIoBinding *_binding
    cdef Session _session
    cdef dict _kept

    def __cinit__(self, Session session):
        self._session = session
        self._kept = {}
        _check(_api.CreateIoBinding(session._session, &self._binding))

    def bind_input(self, str name, Tensor tensor):
        _check(_api.BindInput(self._binding, name.encode(), tensor._value))
        self._kept[name] = tensor

    def bind_output(self, str name, Tensor tensor):
        _check(_api.BindOutput(self._binding, name.encode(), tensor._value))
        self._kept[name] = tensor

    def let_output(self, str name):
        """Let every run make this output's tensor."""
        _check(_api.BindOutputToDevice(self._binding, name.encode(), _memory))

    def outputs(self):
        """The tensors of the last run, in the order in which the outputs were bound."""
        cdef OrtValue **values = NULL
        cdef size_t count = 0
        cdef Tensor tensor
        _check(_api.GetBoundOutputValues(self._binding, _allocator, &values, &count))
        found = []
        for i in range(count):
            tensor = Tensor()
            tensor._value = values[i]
            found.append(tensor)
        if values != NULL:
            _check(_api.AllocatorFree(_allocator, values))
        return found

    def run(self, Control control, long generation):
        """One run, without the GIL.

        Raises:
            Terminated: ``control.terminate(generation)`` came first or meanwhile.
            OrtError: it failed.
        """
        cdef OrtStatus *status
        cdef bint told
        control._begin(generation)
        with nogil:
            status = _api.RunWithBinding(self._session._session, control._options, self._binding)
            told = control._end()
        if told and status != NULL:
            _api.ReleaseStatus(status)
            raise Terminated("the run was terminated")
        _check(status)

    def extend(self, Control control, long generation, StepMemory memory, int64_t[::1] tokens, int64_t[::1] lengths,
               long count, int64_t[:, ::1] ends):
        """Up to ``count`` greedy steps in a row without the GIL: run each row's token, take its likeliest next one, go on.

        Ends behind a step in which a row took one of its ``ends`` [rows, any], or -1 because its logits are no numbers.
        Rows whose token is ``IDLE`` only write behind their length. The tokens taken, [steps, rows]; all but the last
        of a row were run, the first behind ``lengths`` others.

        Raises:
            Terminated: before the first step was done.
            OrtError: a step failed.
        """
        cdef OrtStatus *status = NULL
        cdef long done = 0, row, rows = tokens.shape[0]
        cdef int64_t token
        cdef bint told, at_end = False
        cdef int64_t[:, ::1] taken = np.empty((count, rows), dtype=np.int64)
        control._begin(generation)
        with nogil:
            while done < count and not at_end:
                for row in range(rows):
                    if tokens[row] < 0:
                        memory._place(row, 0, lengths[row])
                    else:
                        token = tokens[row] if done == 0 else taken[done - 1, row]
                        memory._place(row, token, lengths[row] + done)
                status = _api.RunWithBinding(self._session._session, control._options, self._binding)
                if status != NULL:
                    break
                for row in range(rows):
                    taken[done, row] = tokens[row]
                    if tokens[row] < 0:
                        continue
                    token = argmax(&memory._logits[row * memory._vocab], memory._vocab)
                    taken[done, row] = token
                    at_end = at_end or token < 0  # no numbers to choose by
                    for i in range(ends.shape[1]):
                        at_end = at_end or ends[row, i] == token
                done += 1
            told = control._end()
        if told and status != NULL:
            _api.ReleaseStatus(status)
            status = NULL
            if done == 0:
                raise Terminated("the run was terminated")
        _check(status)
        return np.asarray(taken[:done])

    def __dealloc__(self):
        if self._binding != NULL:
            _api.ReleaseIoBinding(self._binding)


cdef class StepMemory:
    """Inputs and logits of steps of up to ``rows`` rows, whose memory is taken once and updated in place."""

    cdef int64_t[::1] _ids
    cdef int32_t[::1] _last
    cdef float[::1] _logits
    cdef readonly long _vocab
    cdef readonly object ids, last, logits

    def __cinit__(self, long rows, long vocab):
        self.ids = np.zeros((rows, 1), dtype=np.int64)
        self.last = np.zeros(rows, dtype=np.int32)
        self.logits = np.zeros((rows, 1, vocab), dtype=np.float32)
        self._ids, self._last, self._logits = self.ids.reshape(-1), self.last, self.logits.reshape(-1)
        self._vocab = vocab

    cdef void _place(self, long row, int64_t token, long length) noexcept nogil:
        self._ids[row] = token
        self._last[row] = <int32_t>length

    def place(self, long row, long token, long length):
        """Set the token that a row runs behind ``length`` others; rows in order, from 0."""
        self._place(row, token, length)
