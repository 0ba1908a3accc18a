// Python door to packed matrices: one product at a time, for tests and measurements.
#include "module.h"

void bind_packed(nb::module_&) {}
