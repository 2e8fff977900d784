// Classes of every kind for the program database of driver.sys.

namespace gokd {

class Shape { // a table of virtual functions
public:
  virtual unsigned Area() const;
  virtual unsigned Area(int scale) const;
  void Name(const char *name) { name_ = name; }
  static unsigned count; // takes no place
  enum Kind { Round, Square };
  struct Inner {
    Kind kind;
    Inner *next;
  };

protected:
  const char *name_;
  wchar_t initial_;
  Inner inner_;
};

struct Counted { // no virtual functions
  unsigned references;
  unsigned long long limit;
};

class Circle : public Shape, protected Counted { // two bases
public:
  unsigned Area() const override;
  unsigned radius : 12;
  unsigned filled : 1;
};

struct Left : virtual Counted { // a virtual base
  int left;
  int (Left::*method)(int);
  int Left::*member;
};

template <class T, unsigned N> struct Array {
  T items[N];
  T &operator[](unsigned i) { return items[i]; }
};

enum class Colour : unsigned char { Red, Green = 200 };

union Value {
  unsigned long long number;
  Array<unsigned short, 3> words;
  struct { // no name
    Colour colour;
    Colour other;
  };
};

unsigned Shape::count = 0;
unsigned Shape::Area() const { return 1; }
unsigned Shape::Area(int scale) const { return unsigned(scale) * Area(); }
unsigned Circle::Area() const { return radius * radius * 3 + unsigned(limit); }

Circle circle;
Array<Circle *, 2> circles;
Array<Array<int, 4>, 2> table;
Value value;
Left *left;

} // namespace gokd

extern "C" unsigned long UseClasses(unsigned long amount) {
  using namespace gokd;
  circle.radius = amount & 0xfff;
  circles[0] = &circle;
  table[1][2] = int(amount);
  value.colour = Colour::Green;
  const Shape &shape = circle;
  return shape.Area(2) + Shape::count;
}
