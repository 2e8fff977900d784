/* A driver that does nothing but have types of every kind and functions to find
 * in its program database. Names follow Windows' spelling; nothing is from its
 * headers. */

typedef unsigned char UCHAR;
typedef unsigned short USHORT;
typedef unsigned long ULONG;
typedef unsigned long long ULONGLONG;
typedef long NTSTATUS;
typedef unsigned short wchar_t; /* as C has it; C++ has a type of its own */
typedef struct WDFDEVICE__ *WDFDEVICE; /* never defined */

typedef struct _LIST_ENTRY { /* points at itself */
  struct _LIST_ENTRY *Flink;
  struct _LIST_ENTRY *Blink;
} LIST_ENTRY;

typedef struct _UNICODE_STRING {
  USHORT Length;
  USHORT MaximumLength;
  wchar_t *Buffer;
} UNICODE_STRING;

enum _POOL { PoolNone = 0, PoolPaged = 1, PoolNegative = -2, PoolTop = 0x7fffffff };
enum _SMALL : UCHAR { SmallOne = 1, SmallLast = 255 };
enum _WIDE : ULONGLONG { WideZero, WideMiddle = 0x123456789abcdefULL, WideAll = ~0ULL };
enum _SIGNED : long long { SignedLow = -0x7fffffffffffffffLL - 1, SignedOne = 1, SignedHigh = 0x7fffffffffffffffLL };

typedef struct _FLAGS { /* bit-fields over a boundary of their unit */
  ULONG First : 1;
  ULONG Second : 30;
  ULONG Third : 7;
  ULONGLONG Wide : 40;
  ULONGLONG : 3;
  ULONGLONG Rest : 21;
  signed char Sign : 3;
  enum _POOL Pool : 3;
} FLAGS;

typedef union _OVERLAY {
  ULONGLONG Whole;
  struct {
    ULONG Low;
    long High;
  };
  struct {
    UCHAR Bytes[8];
  } Part;
  FLAGS Flags;
} OVERLAY;

typedef struct _BASE_TYPES {
  char Char;
  signed char SignedChar;
  unsigned char UnsignedChar;
  wchar_t Wide;
  short Short;
  unsigned short UnsignedShort;
  int Int;
  unsigned int UnsignedInt;
  long Long;
  unsigned long UnsignedLong;
  long long LongLong;
  unsigned long long UnsignedLongLong;
  float Float;
  double Double;
  _Bool Bool;
  void *Pointer;
  const volatile ULONG Constant;
  __int128 Int128;
} BASE_TYPES;

typedef struct _DEVICE { /* nested, unnamed, arrays of arrays, functions, pointers of every kind */
  LIST_ENTRY Link;
  struct _DRIVER *Driver; /* defined below */
  OVERLAY Overlay;
  struct {
    union {
      ULONG Number;
      struct {
        USHORT Bus;
        USHORT Slot;
      } Place;
    } u;
    UNICODE_STRING Name;
  } Id;
  union {
    ULONG Key;
    float Weight;
  };
  UCHAR Grid[2][3][5];
  UNICODE_STRING Names[4];
  NTSTATUS (*Dispatch[28])(struct _DEVICE *Device, void *Irp);
  void (*Unload)(void);
  struct _DEVICE **Neighbours;
  LIST_ENTRY (*Rows)[7];
  const char *Text;
  enum _POOL Pool;
  enum _SMALL Small;
  enum _WIDE WideValue;
  enum _SIGNED SignedValue;
  WDFDEVICE Handle;
  UCHAR Tail[];
} DEVICE;

struct _DRIVER {
  DEVICE *Device;
  struct _NOWHERE *Unknown; /* never defined */
  BASE_TYPES Base;
};

/* 2,000 members: more than a record of 64 KB holds. */
#define M1(n) ULONG LongMemberNameToFillTheList##n;
#define M10(n) M1(n##0) M1(n##1) M1(n##2) M1(n##3) M1(n##4) M1(n##5) M1(n##6) M1(n##7) M1(n##8) M1(n##9)
#define M100(n) M10(n##0) M10(n##1) M10(n##2) M10(n##3) M10(n##4) M10(n##5) M10(n##6) M10(n##7) M10(n##8) M10(n##9)
#define M1000(n) M100(n##0) M100(n##1) M100(n##2) M100(n##3) M100(n##4) M100(n##5) M100(n##6) M100(n##7) M100(n##8) M100(n##9)
typedef struct _LONG_LIST {
  M1000(0)
  M1000(1)
} LONG_LIST;

/* Its size and the offset behind it need a number of 32 bits. */
typedef struct _HUGE {
  UCHAR Bytes[0x12345678];
  ULONG Last;
} HUGE;

LIST_ENTRY DeviceList = {&DeviceList, &DeviceList};
ULONG Counter = 7;
static ULONG PrivateCounter = 8;
struct _DRIVER *Driver;
LONG_LIST *LongList;
HUGE *Huge;
const wchar_t Greeting[] = L"gokd";

extern NTSTATUS AllUnwindCodes(DEVICE *Device);
extern ULONG UseClasses(ULONG Value);

__attribute__((noinline)) static ULONG Mix(ULONG Value, UCHAR Shift) {
  static ULONG Seed = 5; /* static inside a function */
  Seed += Value << Shift;
  return Seed ^ PrivateCounter;
}

__attribute__((noinline)) NTSTATUS EvtDeviceAdd(WDFDEVICE Handle, DEVICE *Device, const UNICODE_STRING *Name, enum _POOL Pool, ULONGLONG Size) {
  Device->Handle = Handle;
  Device->Id.Name = *Name;
  Device->Pool = Pool;
  Device->Overlay.Whole = Size;
  return Mix(Name->Length, 3) == 0 ? -1 : 0;
}

__attribute__((noinline)) void Walk(LIST_ENTRY *Head, void (*Visit)(LIST_ENTRY *Entry, void *Context), void *Context) {
  for (LIST_ENTRY *Entry = Head->Flink; Entry != Head; Entry = Entry->Flink)
    Visit(Entry, Context);
}

static void Count(LIST_ENTRY *Entry, void *Context) {
  *(ULONG *)Context += Entry != 0;
}

NTSTATUS DriverEntry(struct _DRIVER *Object, UNICODE_STRING *Path) {
  Driver = Object;
  LongList = 0;
  Huge = 0;
  Walk(&DeviceList, Count, &Counter);
  Counter += UseClasses(Path->Length) + Greeting[Counter & 3];
  if (AllUnwindCodes(Object->Device) != 0)
    return -1;
  return EvtDeviceAdd(0, Object->Device, Path, PoolPaged, 16);
}
