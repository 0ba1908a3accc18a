// Python door to models, contexts and streams.
#include "module.h"

void bind_runtime(nb::module_&) {}
