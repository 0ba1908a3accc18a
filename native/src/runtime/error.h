// Errors inside the core are exceptions; the C interface turns them into a status and a sentence.
#pragma once

#include <new>
#include <stdexcept>
#include <string>

#include "solomonic.h"

namespace slm {

// A value from outside that does not fit; the text is one sentence for people.
struct BadArgument : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void refuse(const std::string& text) { throw BadArgument(text); }
inline void require(bool fits, const std::string& text) {
  if (!fits) refuse(text);
}

// What slm_error returns on this thread: begin, then text. Never fails, not even without memory.
void remember(const char* begin, const char* text = "") noexcept;

// Run `body` and translate what it throws.
template <class Body>
slm_status guarded(const Body& body) noexcept {
  try {
    body();
    return SLM_OK;
  } catch (const BadArgument& error) {
    remember(error.what());
    return SLM_BAD_ARGUMENT;
  } catch (const std::bad_alloc&) {
    remember("there is not enough memory; use a smaller model, shorter segments or fewer streams.");
    return SLM_OUT_OF_MEMORY;
  } catch (const std::length_error&) {  // more than any machine has
    remember("there is not enough memory; use a smaller model, shorter segments or fewer streams.");
    return SLM_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    remember("internal error: ", error.what());
    return SLM_INTERNAL;
  }
}

}  // namespace slm
