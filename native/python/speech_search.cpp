// Python door to the search, its lattice and personal words.
#include "module.h"

void bind_speech_search(nb::module_&) {}
